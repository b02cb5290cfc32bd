//! Regular expressions in statements: SQLite leaves `REGEXP` to its host, PostgreSQL has `~`.

use regex::Regex;
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

/// Why a regular expression cannot be used, if so.
///
/// # Errors
/// The reason, in the words of the library.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    Regex::new(pattern)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Gives a connection to SQLite the function behind `value REGEXP pattern`.
pub(crate) fn define(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("regexp", 2, flags, matches)
}

/// Null for what is no text, as comparisons with null are.
fn matches(call: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    let pattern = call.get_or_create_aux(0, |pattern| {
        Ok::<_, Failure>(Regex::new(pattern.as_str()?)?)
    })?;
    match call.get_raw(1) {
        ValueRef::Text(value) => Ok(std::str::from_utf8(value)
            .ok()
            .map(|value| pattern.is_match(value))),
        _ => Ok(None),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
