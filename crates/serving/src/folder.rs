//! The files of a model version as a folder of this machine.

use std::path::Path;

use registry::Registry;
use tracking::Location;

use crate::copies::{Copies, Folder};
use crate::error::Error;

/// Where the files are: in the artifact store itself when that is a local folder, else one of
/// `copies`, kept under what the files are: their names, sizes and, where the storage has them,
/// ETags. An external MLflow server tells no more than names and sizes.
///
/// # Errors
/// When the files cannot be read or the copy cannot be written.
pub(crate) async fn of(
    registry: &Registry,
    location: &Location,
    copies: &Copies,
) -> Result<Folder, Error> {
    let artifacts = registry.tracking().artifacts();
    if let Some(folder) = artifacts.local_dir(location) {
        return Ok(folder.into());
    }
    let mut files: Vec<String> = artifacts
        .list_all(location)
        .await?
        .into_iter()
        .map(|file| format!("{} {:?} {:?}", file.path, file.size_bytes, file.e_tag))
        .collect();
    files.sort();
    let name = name(location.key(), &files);
    if let Some(copy) = copies.find(&name) {
        return Ok(copy);
    }
    let failed = |source| Error::Io {
        attempt: format!(
            "keep a copy of {} in {}",
            location.uri(),
            copies.root().display()
        ),
        source,
    };
    let part = copies.begin().map_err(failed)?;
    artifacts.download(location, part.path()).await?;
    let copy = copies.publish(part, &name).map_err(failed)?;
    make_room(copies).await;
    Ok(copy)
}

/// Brings the copies back within their limit.
pub(crate) async fn make_room(copies: &Copies) {
    let pruned = {
        let copies = copies.clone();
        tokio::task::spawn_blocking(move || copies.prune()).await
    };
    // The model can be served all the same.
    if let Ok(Err(error)) = pruned {
        let folder = copies.root().display();
        tracing::error!(%folder, %error, "removing copies of models that nobody uses failed");
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
