//! What a folder on disk can do and a bucket cannot.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ArtifactEntry;

/// The file that a running server holds locked in its folder of uploads.
const LOCK: &str = "lock";

/// After which the kernel has long written what nobody told it to keep: it does after 30 seconds.
const SETTLING: Duration = Duration::from_secs(120);

/// Starting takes no longer.
const STARTING: Duration = Duration::from_secs(60);

/// Whether any step from `folder` along `names` is a symbolic link.
pub(super) fn has_link(folder: &Path, names: &str) -> bool {
    let mut place = folder.to_owned();
    for name in names.split('/').filter(|n| !n.is_empty()) {
        place.push(name);
        match std::fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_symlink() => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Leaves out the entries that are symbolic links.
pub(super) async fn without_links(
    folder: PathBuf,
    entries: Vec<ArtifactEntry>,
) -> Result<Vec<ArtifactEntry>, tokio::task::JoinError> {
    let kept = tokio::task::spawn_blocking(move || {
        let linked = |e: &ArtifactEntry| has_link(&folder, &e.path);
        entries.into_iter().filter(|e| !linked(e)).collect()
    });
    kept.await
}

/// Has the disk keep what was written into a file, also through a loss of power.
pub(super) async fn keep_content(file: PathBuf) -> std::io::Result<()> {
    blocking(move || File::open(file)?.sync_data()).await
}

/// Has the disk keep the name of a file below the root, and those of the folders that are new.
pub(super) async fn keep_name(root: PathBuf, file: PathBuf) -> std::io::Result<()> {
    blocking(move || {
        let changed = changed(&root, &file, is_new);
        changed
            .iter()
            .try_for_each(|folder| File::open(folder)?.sync_all())
    })
    .await
}

/// The folders around a file up to the first that is not new. One that was made for another upload
/// a moment ago is new too: nobody may have had the disk keep its name yet.
fn changed<'a>(root: &Path, file: &'a Path, is_new: impl Fn(&Path) -> bool) -> Vec<&'a Path> {
    let around = file.ancestors().skip(1);
    let mut changed = Vec::new();
    for folder in around.take_while(|folder| folder.starts_with(root)) {
        changed.push(folder);
        if !is_new(folder) {
            break;
        }
    }
    changed
}

/// Whether the disk may not have kept a folder's name by itself yet. Unknown counts as new.
fn is_new(folder: &Path) -> bool {
    let made = std::fs::metadata(folder).and_then(|meta| meta.created());
    let age = made.ok().and_then(|at| at.elapsed().ok());
    age.is_none_or(|age| age < SETTLING)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}

/// Removes a file, or a folder with all that is in it; nothing there is fine.
pub(super) async fn remove(place: &Path) -> std::io::Result<()> {
    let removed = match tokio::fs::symlink_metadata(place).await {
        Ok(meta) if meta.is_dir() => tokio::fs::remove_dir_all(place).await,
        Ok(_) => tokio::fs::remove_file(place).await,
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(())
        }
        other => other,
    }
}

/// Removes the empty folders around a place, up to the root and without it.
pub(super) async fn prune(root: &Path, place: &Path) {
    let around = place.ancestors().skip(1);
    for folder in around.take_while(|folder| *folder != root && folder.starts_with(root)) {
        // One that is not empty ends it.
        if tokio::fs::remove_dir(folder).await.is_err() {
            break;
        }
    }
}

/// The folder in which one server's uploads gather, its own as long as it runs.
#[derive(Debug)]
pub(super) struct Uploads {
    name: String,
    place: PathBuf,
    /// Held as long as this lives; the kernel frees it when the process dies, however it dies.
    _lock: File,
}

impl Uploads {
    /// Makes such a folder in `all`, after removing what servers left there that are gone.
    pub(super) fn open(all: &Path) -> std::io::Result<Self> {
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700);
        private.recursive(true).create(all)?;
        remove_left(all)?;
        let name = crate::id::random_hex().map_err(std::io::Error::other)?;
        let place = all.join(&name);
        private.recursive(false).create(&place)?;
        let lock = File::create_new(place.join(LOCK))?;
        lock.try_lock()?;
        Ok(Self {
            name,
            place,
            _lock: lock,
        })
    }

    /// Its name among all such folders.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.place) {
            tracing::debug!(%error, path = %self.place.display(), "the next start removes this");
        }
    }
}

/// Removes the unfinished uploads of servers that are gone: whoever lives holds its lock.
fn remove_left(all: &Path) -> std::io::Result<()> {
    for left in std::fs::read_dir(all)? {
        let path = left?.path();
        let removed = match File::open(path.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => std::fs::remove_dir_all(&path),
                Err(TryLockError::WouldBlock) => Ok(()),
                Err(TryLockError::Error(error)) => Err(error),
            },
            // A server that is just starting has no lock yet.
            Err(_) if is_young(&path) => Ok(()),
            Err(_) if path.is_dir() => std::fs::remove_dir_all(&path),
            Err(_) => std::fs::remove_file(&path),
        };
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "an old upload could not be removed");
        }
    }
    Ok(())
}

fn is_young(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().unwrap_or_default() < STARTING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_folders_that_another_upload_has_just_made_are_kept_too() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/model/data");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("f");
        let around = |is_new: fn(&Path) -> bool| changed(root.path(), &file, is_new).len();
        assert_eq!(around(is_new), 4, "data, model, run, root");
        assert_eq!(around(|folder: &Path| folder.ends_with("data")), 2);
        assert_eq!(around(|_: &Path| false), 1);
    }
}
