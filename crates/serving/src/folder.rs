//! The files of a model version as a folder of this machine.

use std::path::{Path, PathBuf};

use registry::Registry;
use tracking::Location;

use crate::error::Error;

/// Where the files are: in the artifact store itself when that is a local folder, else a copy
/// below `cache`, kept under what the files are.
///
/// # Errors
/// When the files cannot be read or the copy cannot be written.
pub(crate) async fn of(
    registry: &Registry,
    location: &Location,
    cache: &Path,
) -> Result<PathBuf, Error> {
    let artifacts = registry.tracking().artifacts();
    if let Some(folder) = artifacts.local_dir(location) {
        return Ok(folder);
    }
    let mut files: Vec<String> = artifacts
        .list_all(location)
        .await?
        .into_iter()
        .map(|file| format!("{} {:?}", file.path, file.size_bytes))
        .collect();
    files.sort();
    let copy = cache.join(name(location.key(), &files));
    if tokio::fs::try_exists(&copy).await.unwrap_or(false) {
        return Ok(copy);
    }
    let failed = |source| Error::Io {
        attempt: format!("keep a copy of {} in {}", location.uri(), cache.display()),
        source,
    };
    tokio::fs::create_dir_all(cache).await.map_err(failed)?;
    let part = tempfile::TempDir::with_prefix_in("part-", cache).map_err(failed)?;
    artifacts.download(location, part.path()).await?;
    let part = part.keep();
    match tokio::fs::rename(&part, &copy).await {
        Ok(()) => Ok(copy),
        // Another request was quicker.
        Err(_) if tokio::fs::try_exists(&copy).await.unwrap_or(false) => {
            let _ = tokio::fs::remove_dir_all(&part).await;
            Ok(copy)
        }
        Err(source) => Err(failed(source)),
    }
}

/// The names in a folder, for telling what is there in place of a model.
pub(crate) async fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut entries) = tokio::fs::read_dir(folder).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

/// A folder name for these files at this place.
fn name(key: &str, files: &[String]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    hash.update(key);
    for file in files {
        hash.update([0]);
        hash.update(file);
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn other_files_are_another_folder() {
        let files = ["MLmodel Some(10)".to_owned()];
        assert_eq!(name("1/models/m-a", &files), name("1/models/m-a", &files));
        assert_ne!(name("1/models/m-a", &files), name("1/models/m-b", &files));
        assert_ne!(name("1/models/m-a", &files), name("1/models/m-a", &[]));
    }
}
