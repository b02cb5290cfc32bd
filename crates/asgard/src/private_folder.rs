//! The data directory belongs to the server's user alone: it holds scripts, models and variables of
//! jobs, whatever the user's umask.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const OTHERS: u32 = 0o007;
/// Of a folder that all users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Makes a folder that nobody else can enter, or closes one that is there to others, where it holds
/// nothing but what is asgard's.
///
/// A folder of another user (a volume that an orchestrator mounted) keeps its mode, and so do the
/// rights of its group: who set them meant them.
///
/// # Errors
/// When it cannot be made or closed.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(folder);
    match made {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder.parent().unwrap_or(Path::new("/")))?;
            return make(folder);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::metadata(folder)?;
    let mode = found.permissions().mode();
    if mode & OTHERS != 0 && (mode & STICKY != 0 || !is_ours(folder)?) {
        tracing::warn!(
            folder = %folder.display(),
            "the data directory is open to other users and holds other things: give asgard a folder of its own"
        );
        return Ok(());
    }
    if mode & OTHERS != 0 && found.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode & !OTHERS))?;
    }
    Ok(())
}

/// Whether a folder is empty or was asgard's before.
fn is_ours(folder: &Path) -> io::Result<bool> {
    let known = [db::SQLITE_FILE, "asgard.lock", "artifacts"];
    Ok(known.iter().any(|name| folder.join(name).exists())
        || fs::read_dir(folder)?.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_is_the_users_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("deep/data");
        make(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn a_folder_that_is_there_is_closed_to_others_and_left_to_its_group() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("data");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o775)).unwrap();
        make(&folder).unwrap();
        assert_eq!(mode(&folder), 0o770);
    }

    #[test]
    fn a_folder_with_other_things_in_it_keeps_its_mode() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("shared");
        fs::create_dir_all(folder.join("photos")).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o775)).unwrap();
        make(&folder).unwrap();
        assert_eq!(mode(&folder), 0o775);
    }

    #[test]
    fn a_file_in_its_place_is_an_error() {
        let outer = tempfile::tempdir().unwrap();
        let file = outer.path().join("data");
        fs::write(&file, "").unwrap();
        assert!(make(&file.join("below")).is_err());
    }
}
