//! Regular expressions in statements: SQLite leaves `REGEXP` to its host, PostgreSQL has `~`.

use regex::{Regex, RegexBuilder};
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

/// The longest pattern, and how much room it may take when it is made ready to search with: what one
/// search costs grows with both.
const MAX_CHARS: usize = 1_000;
const MAX_BYTES: usize = 1024 * 1024;

/// Why a regular expression cannot be used, if so. It is written as the `regex` library of Rust reads
/// it, which has no back references, so that no text takes it longer than its length.
///
/// # Errors
/// The reason, in the words of the library.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.chars().nth(MAX_CHARS).is_some() {
        return Err(format!("it is longer than {MAX_CHARS} characters"));
    }
    ready(pattern).map(drop).map_err(|error| error.to_string())
}

fn ready(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_BYTES).build()
}

/// The same pattern as PostgreSQL writes it: edges of words are `\y`, and a dot does not go over the
/// end of a line only when asked (PostgreSQL, 9.7.3, advanced regular expressions).
pub fn postgres_pattern(pattern: &str) -> String {
    let (flags, rest) = match pattern
        .strip_prefix("(?")
        .and_then(|rest| rest.split_once(')'))
    {
        Some((flags, rest)) if flags.chars().all(|c| c.is_ascii_lowercase()) => (flags, rest),
        _ => ("", pattern),
    };
    let mut text = format!("(?p{flags})");
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        text.push(c);
        if c == '\\' {
            text.extend(chars.next().map(|escaped| match escaped {
                'b' => 'y',
                'B' => 'Y',
                other => other,
            }));
        }
    }
    text
}

/// Gives a connection to SQLite the function behind `value REGEXP pattern`.
pub(crate) fn define(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("regexp", 2, flags, matches)
}

/// Null for what is no text, as comparisons with null are.
fn matches(call: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    let pattern =
        call.get_or_create_aux(0, |pattern| Ok::<_, Failure>(ready(pattern.as_str()?)?))?;
    match call.get_raw(1) {
        ValueRef::Text(value) => Ok(std::str::from_utf8(value)
            .ok()
            .map(|value| pattern.is_match(value))),
        _ => Ok(None),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bounded() {
        assert!(check_pattern("^a.b$").is_ok());
        assert!(check_pattern("(").is_err());
        assert!(check_pattern(&"a".repeat(MAX_CHARS + 1)).is_err());
        assert!(check_pattern(r"(\w{90}\s){90}").is_err());
    }

    #[test]
    fn patterns_are_written_for_postgresql() {
        assert_eq!(postgres_pattern(r"\bchat\B\\b"), r"(?p)\ychat\Y\\b");
        assert_eq!(postgres_pattern("(?i)a"), "(?pi)a");
        assert_eq!(postgres_pattern("(?:a)"), "(?p)(?:a)");
    }
}
