//! The folder of a worker on the host: its own as long as it lives, and gone with it.
//!
//! It is locked meanwhile, so that a server which starts can tell folders that a killed one has left
//! from those of a server that lives.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = "worker-";

/// The folder of a worker; removed when it is dropped.
pub(super) struct Folder {
    dir: TempDir,
    _lock: File,
}

impl Folder {
    /// A new one.
    pub(super) fn new_in(home: &Path) -> io::Result<Self> {
        loop {
            let dir = TempDir::with_prefix_in(PREFIX, home)?;
            // Before it is locked another server may take it for one that was left, and remove it.
            let lock = match File::open(dir.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            lock.lock()?;
            if lock.metadata()?.nlink() > 0 {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the folders whose server lives no more, and tells how many.
pub(super) fn remove_left(home: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        // One that is gone was removed meanwhile.
        let Ok(lock) = File::open(&path) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removed += 1,
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_a_killed_server_left_are_removed_and_no_others() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(remove_left(&home.path().join("none")).unwrap(), 0);
        let left = home.path().join("worker-of-a-killed-server");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("file"), "values").unwrap();
        let program = home.path().join("transform.py");
        fs::write(&program, "").unwrap();
        let living = Folder::new_in(home.path()).unwrap();
        assert_eq!(remove_left(home.path()).unwrap(), 1);
        assert!(!left.exists());
        assert!(program.exists() && living.path().exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
