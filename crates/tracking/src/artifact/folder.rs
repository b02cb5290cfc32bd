//! What a folder on disk can do and a bucket cannot.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ArtifactEntry;

/// An upload that nobody finished after this time never will be.
const UPLOAD_LIFE: Duration = Duration::from_secs(24 * 3600);

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

/// Removes what a killed server left of uploads.
pub(super) fn remove_old_uploads(folder: &Path) {
    let Ok(uploads) = std::fs::read_dir(folder) else {
        return;
    };
    for upload in uploads.flatten() {
        let age = upload
            .metadata()
            .and_then(|meta| meta.modified())
            .map(|at| at.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > UPLOAD_LIFE)
            && let Err(error) = std::fs::remove_file(upload.path())
        {
            tracing::warn!(%error, path = %upload.path().display(), "an old upload could not be removed");
        }
    }
}
