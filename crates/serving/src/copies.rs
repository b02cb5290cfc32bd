//! Copies of models whose files are elsewhere, in a folder of this machine that is kept within a
//! size: beyond it those go that were used longest ago. One that is held stays.
//!
//! A copy is whole or does not exist: it is made under another name and renamed. Whoever uses one
//! holds a shared lock on its folder, whose time of change tells when it was last used.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// How the names of folders begin that are no copies yet, or no more.
const PART: &str = "part-";
/// No download takes as long: what is older was left behind by a server that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// A model's folder on this machine, which stays there for as long as this or a clone of it does.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    _hold: Option<Arc<Hold>>,
}

/// A shared lock on a copy.
#[derive(Debug)]
struct Hold(File);

impl Hold {
    fn note_use(&self) {
        if let Err(error) = self.0.set_modified(SystemTime::now()) {
            tracing::warn!(%error, "noting that the copy of a model is used failed");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.note_use();
    }
}

impl From<PathBuf> for Folder {
    /// A folder that somebody else keeps.
    fn from(path: PathBuf) -> Self {
        Self { path, _hold: None }
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// The folder of copies.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    root: PathBuf,
    /// 0: without end.
    limit_bytes: u64,
}

impl Copies {
    pub(crate) fn new(root: PathBuf, limit_bytes: u64) -> Self {
        Self { root, limit_bytes }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A copy, held and counted as used now.
    pub(crate) fn find(&self, name: &str) -> Option<Folder> {
        let path = self.root.join(name);
        let file = File::open(&path).ok()?;
        // Held by others who use it, or by who removes it.
        flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        // It may have been moved away just before it was held.
        let (held, there) = (file.metadata().ok()?, fs::metadata(&path).ok()?);
        if held.ino() != there.ino() {
            return None;
        }
        let hold = Hold(file);
        hold.note_use();
        Some(Folder {
            path,
            _hold: Some(Arc::new(hold)),
        })
    }

    /// A folder to bring files into; removed unless it is published.
    pub(crate) fn begin(&self) -> io::Result<TempDir> {
        fs::create_dir_all(&self.root)?;
        TempDir::with_prefix_in(PART, &self.root)
    }

    /// Makes what has been brought the copy of this name, unless another request was quicker.
    pub(crate) fn publish(&self, part: TempDir, name: &str) -> io::Result<Folder> {
        let place = self.root.join(name);
        let renamed = fs::rename(part.path(), &place);
        if renamed.is_ok() {
            let _ = part.keep();
        }
        match (self.find(name), renamed) {
            (Some(copy), _) => Ok(copy),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::Error::other("it cannot be read back")),
        }
    }

    /// Removes copies that nobody holds, those used longest ago first, until the rest is within
    /// the limit; how many went.
    pub(crate) fn prune(&self) -> io::Result<usize> {
        let mut copies = self.list()?;
        copies.sort_by_key(|copy| copy.used);
        let mut bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
        let mut removed = 0;
        for copy in copies {
            if self.limit_bytes == 0 || bytes <= self.limit_bytes {
                break;
            }
            if self.remove(&copy.path)? {
                bytes -= copy.bytes;
                removed += 1;
                tracing::info!(
                    folder = %copy.path.display(),
                    bytes = copy.bytes,
                    "the copy of a model that was used longest ago is removed"
                );
            }
        }
        Ok(removed)
    }

    /// The copies; what a killed server left behind is removed on the way.
    fn list(&self) -> io::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copies),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let used = found.modified()?;
            let path = entry.path();
            if !entry.file_name().to_string_lossy().starts_with(PART) {
                let bytes = size_bytes(&path)?;
                copies.push(Copy { path, used, bytes });
            } else if used.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(copies)
    }

    /// Removes a copy unless somebody holds it: from its place at once, from the disk in its time.
    fn remove(&self, path: &Path) -> io::Result<bool> {
        let file = File::open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let doomed = self.begin()?;
        fs::rename(path, doomed.path().join("it"))?;
        doomed.close()?;
        Ok(true)
    }
}

struct Copy {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

/// The room that a copy takes on the disk.
fn size_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += match found.is_dir() {
            true => size_bytes(&entry.path())?,
            false => found.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 64 * 1024;

    fn copies(root: &Path, limit_bytes: u64) -> Copies {
        Copies::new(root.join("models"), limit_bytes)
    }

    fn bring(copies: &Copies, name: &str) -> Folder {
        let part = copies.begin().unwrap();
        fs::create_dir(part.path().join("data")).unwrap();
        let content = vec![1; usize::try_from(SIZE).unwrap()];
        fs::write(part.path().join("data/model.pkl"), content).unwrap();
        copies.publish(part, name).unwrap()
    }

    /// Lets the last use of a copy be that many hours ago.
    fn age(copies: &Copies, name: &str, hours: u64) {
        let folder = File::open(copies.root().join(name)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(hours * 3600);
        folder.set_modified(used).unwrap();
    }

    #[test]
    fn those_used_longest_ago_go_and_those_that_are_held_stay() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 2 * SIZE + SIZE / 2);
        let held = bring(&copies, "held");
        for name in ["old", "middle", "new"] {
            drop(bring(&copies, name));
        }
        for (name, hours) in [("held", 9), ("old", 8), ("middle", 1), ("new", 2)] {
            age(&copies, name, hours);
        }
        assert_eq!(copies.prune().unwrap(), 2);
        assert!(held.join("data/model.pkl").is_file());
        let there = |name| copies.find(name).is_some();
        assert!(there("middle") && !there("old") && !there("new"));
        drop(held);
        assert_eq!(copies.prune().unwrap(), 0, "within the limit");
        assert_eq!(fs::read_dir(copies.root()).unwrap().count(), 2);
    }

    #[test]
    fn use_counts_when_it_begins_and_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), SIZE + SIZE / 2);
        for name in ["a", "b"] {
            drop(bring(&copies, name));
            age(&copies, name, 5);
        }
        let found = copies.find("a").unwrap();
        age(&copies, "a", 6);
        drop(found);
        assert_eq!(copies.prune().unwrap(), 1);
        assert!(copies.find("a").is_some() && copies.find("b").is_none());
    }

    #[test]
    fn without_a_limit_only_what_was_left_behind_goes() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 0);
        assert_eq!(copies.prune().unwrap(), 0, "there is no folder yet");
        drop(bring(&copies, "a"));
        let parts = ["part-old", "part-new"];
        for part in parts {
            fs::create_dir(copies.root().join(part)).unwrap();
        }
        age(&copies, "part-old", 30);
        assert_eq!(copies.prune().unwrap(), 0);
        assert!(copies.find("a").is_some());
        assert_eq!(
            parts.map(|part| copies.root().join(part).exists()),
            [false, true]
        );
    }

    #[test]
    fn of_two_that_bring_the_same_both_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 0);
        let (first, second) = (bring(&copies, "a"), bring(&copies, "a"));
        assert_eq!(&*first, &*second);
        assert_eq!(fs::read_dir(copies.root()).unwrap().count(), 1);
    }
}
