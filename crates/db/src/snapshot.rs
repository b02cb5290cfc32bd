//! A copy of a SQLite database as it was at one moment, also while a server writes to it.

use std::path::Path;

use crate::error::Error;
use crate::sqlite::{File, blocking};

/// Copies the database in `file` into a new file. It takes no lock that writers wait for, and
/// only what is committed is copied.
///
/// # Errors
/// When `file` is no database, or `into` cannot be written or exists.
pub fn snapshot(file: &Path, into: &Path) -> Result<(), Error> {
    let conn = File::at(file).open_plain()?;
    let into = into.to_string_lossy();
    blocking(|| conn.execute("VACUUM INTO ?1", [into.as_ref()]))?;
    Ok(())
}
