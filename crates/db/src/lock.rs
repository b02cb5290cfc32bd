//! The lock that keeps a second process off a SQLite data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;

/// Held as long as it lives; the kernel frees it when the process dies, however it dies.
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of a data directory that exists.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process holds it.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("asgard.lock");
        let failed = |source| Error::Directory {
            path: dir.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(errno.into()));
            }
            let mut pid = String::new();
            let holder = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!(" (pid {})", pid.trim()),
                _ => String::new(),
            };
            return Err(Error::Locked {
                path: dir.to_owned(),
                holder,
            });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
