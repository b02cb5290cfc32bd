//! A copy of the file of the online store, made beside the server that has it open.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use redb::Database;

use crate::error::Error;

/// How often a file that changes under the copy is tried again, and after how long.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(100);

/// Copies the file as it was at one moment: nobody wrote to it meanwhile, and the copy is whole.
/// Tells whether there was such a moment.
///
/// # Errors
/// When the file cannot be read, or the copy cannot be written.
pub fn copy_online(from: &Path, to: &Path) -> Result<bool, Error> {
    let failed = || format!("the online store {} cannot be copied", from.display());
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(AGAIN);
        }
        let before = state(from).map_err(Error::io(failed()))?;
        fs::copy(from, to).map_err(Error::io(failed()))?;
        if before == state(from).map_err(Error::io(failed()))? && is_whole(to) {
            return Ok(true);
        }
    }
    fs::remove_file(to).map_err(Error::io(failed()))?;
    Ok(false)
}

fn state(file: &Path) -> std::io::Result<(u64, SystemTime)> {
    let meta = fs::metadata(file)?;
    Ok((meta.len(), meta.modified()?))
}

/// Opens the copy, which was not closed, and compares its checksums.
fn is_whole(copy: &Path) -> bool {
    let opened = Database::open(copy);
    opened.is_ok_and(|mut database| database.check_integrity().unwrap_or(false))
}
