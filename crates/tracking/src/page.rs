//! Page tokens: the offset of the next page, as MLflow writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Serialize, Deserialize)]
struct Token {
    offset: i64,
    /// What stands before the page, where that leads there quicker than counting.
    #[serde(default)]
    after: Option<[i64; 3]>,
}

/// Writes the token of the page that begins at `offset`.
pub fn token(offset: i64) -> String {
    STANDARD.encode(format!("{{\"offset\": {offset}}}"))
}

/// Writes the token of the page that begins at `offset`, behind the entry that `after` names.
pub(crate) fn token_after(offset: i64, after: [i64; 3]) -> String {
    STANDARD.encode(format!("{{\"offset\": {offset}, \"after\": {after:?}}}"))
}

/// What a token names as standing before its page.
pub(crate) fn after(token: Option<&str>) -> Option<[i64; 3]> {
    read(token?)?.after
}

fn read(token: &str) -> Option<Token> {
    let bytes = STANDARD.decode(token).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads a token; an absent or empty one is the first page.
///
/// # Errors
/// [`Error::Invalid`] for what no server wrote.
pub fn offset(token: Option<&str>) -> Result<i64, Error> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    read(token)
        .map(|token| token.offset)
        .filter(|offset| *offset >= 0)
        .ok_or_else(|| {
            Error::Invalid(format!(
                "Invalid page token {token:?}: it must come from an earlier answer"
            ))
        })
}

/// A piece of a long answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries come before it.
    pub(crate) offset: i64,
    /// How many entries it has at most.
    pub(crate) limit: i64,
}

impl Page {
    /// The page that a token leads to.
    pub(crate) fn new(token: Option<&str>, limit: i64) -> Result<Self, Error> {
        let offset = offset(token)?;
        Ok(Self { offset, limit })
    }

    /// How many entries to ask for: one more than the page has tells whether another follows.
    pub(crate) fn lookahead(self) -> i64 {
        self.limit.saturating_add(1)
    }

    /// Cuts what was found down to the page, and gives the next page's token if there is more.
    pub(crate) fn cut<T>(self, found: &mut Vec<T>) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(0);
        if found.len() <= limit {
            return None;
        }
        found.truncate(limit);
        Some(token(self.offset.saturating_add(self.limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leads_to_the_next() {
        let first = Page::new(None, 2).unwrap();
        let mut found = vec![1, 2, 3];
        let token = first.cut(&mut found).unwrap();
        assert_eq!(found, [1, 2]);
        let second = Page::new(Some(&token), 2).unwrap();
        assert_eq!(second.offset, 2);
        assert_eq!(second.cut(&mut vec![3]), None);
    }

    #[test]
    fn a_token_is_read_back_and_garbage_is_refused() {
        assert_eq!(offset(Some(&token(30))).unwrap(), 30);
        assert_eq!(offset(None).unwrap(), 0);
        assert_eq!(offset(Some("")).unwrap(), 0);
        let behind = token_after(30, [7, -1, i64::MIN]);
        assert_eq!(offset(Some(&behind)).unwrap(), 30);
        assert_eq!(after(Some(&behind)), Some([7, -1, i64::MIN]));
        assert_eq!(after(Some(&token(30))), None);
        for garbage in ["x", "e30=", "eyJvZmZzZXQiOiAtMX0="] {
            assert!(offset(Some(garbage)).is_err(), "{garbage}");
        }
    }
}
