//! Work folders that a killed server left.

use std::path::Path;

/// Removes the work folder of a server that was killed. One that cannot be removed keeps no job from
/// running: each has a folder of its own.
pub(super) fn remove(folder: &Path) {
    let removed = match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // A script may have closed its folders to their owner.
            open_to_owner(folder).and_then(|()| std::fs::remove_dir_all(folder))
        }
        removed => removed,
    };
    if let Err(error) = removed {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "a job's work folder is left and cannot be removed");
    }
}

fn open_to_owner(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself: what a link points at is not the job's.
        if entry.file_type()?.is_dir() {
            open_to_owner(&entry.path())?;
        }
    }
    Ok(())
}
