//! Page tokens: the offset of the next page, as MLflow writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Serialize, Deserialize)]
struct Token {
    offset: i64,
}

/// Writes the token of the page that begins at `offset`.
pub fn token(offset: i64) -> String {
    STANDARD.encode(format!("{{\"offset\": {offset}}}"))
}

/// Reads a token; an absent or empty one is the first page.
///
/// # Errors
/// [`Error::Invalid`] for what no server wrote.
pub fn offset(token: Option<&str>) -> Result<i64, Error> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    let read = || -> Option<Token> {
        let bytes = STANDARD.decode(token).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    read()
        .map(|token| token.offset)
        .filter(|offset| *offset >= 0)
        .ok_or_else(|| {
            Error::Invalid(format!(
                "Invalid page token {token:?}: it must come from an earlier answer"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_garbage_is_refused() {
        assert_eq!(offset(Some(&token(30))).unwrap(), 30);
        assert_eq!(offset(None).unwrap(), 0);
        assert_eq!(offset(Some("")).unwrap(), 0);
        for garbage in ["x", "e30=", "eyJvZmZzZXQiOiAtMX0="] {
            assert!(offset(Some(garbage)).is_err(), "{garbage}");
        }
    }
}
