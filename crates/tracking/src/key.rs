//! The keys of metrics, params and tags, and how long their values may be.

use crate::error::Error;

/// The longest key, in characters (`MAX_ENTITY_KEY_LENGTH`).
const MAX_KEY_CHARS: usize = 250;

/// Checks a key as `mlflow/utils/validation.py` does: clients may use it as a file name.
///
/// # Errors
/// [`Error::Field`] naming `parameter`.
pub(crate) fn check(key: &str, parameter: &str) -> Result<(), Error> {
    check_named(key, || parameter.to_owned())
}

/// Checks the key of a tag as those of requests are.
///
/// # Errors
/// [`Error::Field`] with the reason.
pub fn check_tag_key(key: &str) -> Result<(), Error> {
    check(key, "key")
}

/// The same for one of many, whose name is only made for an error.
pub(crate) fn check_named(key: &str, parameter: impl Fn() -> String) -> Result<(), Error> {
    let shown = || serde_json::Value::from(key).to_string();
    let plain = |c: char| c.is_alphanumeric() || "_/.- :".contains(c);
    if !key.chars().all(plain) {
        return Err(Error::field(
            parameter(),
            shown(),
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)",
        ));
    }
    if resolves_elsewhere(key) {
        return Err(Error::field(
            parameter(),
            shown(),
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such",
        ));
    }
    if key.len() > MAX_KEY_CHARS {
        check_length(key, MAX_KEY_CHARS, &parameter())?;
    }
    Ok(())
}

/// What the keys of the server's own tags begin with.
const RESERVED_PREFIX: &str = "asgard.";

/// Refuses a caller's tag that only the server sets.
///
/// # Errors
/// [`Error::Invalid`] naming the prefix.
pub(crate) fn check_not_reserved(key: &str) -> Result<(), Error> {
    if key.starts_with(RESERVED_PREFIX) {
        return Err(Error::Invalid(format!(
            "Invalid tag key '{key}': the prefix '{RESERVED_PREFIX}' is reserved for tags that the \
             server sets; choose another key"
        )));
    }
    Ok(())
}

/// Whether a file system would make another path of this one: `a//b`, `a/../b`, `/a`, `a/`.
fn resolves_elsewhere(key: &str) -> bool {
    key.split('/')
        .any(|name| name.is_empty() || name == "." || name == "..")
        || key.starts_with("..")
}

/// Refuses a text of more than `max` characters.
///
/// # Errors
/// [`Error::Invalid`] naming `parameter`.
pub(crate) fn check_length(text: &str, max: usize, parameter: &str) -> Result<(), Error> {
    if text.len() > max && text.chars().count() > max {
        return Err(Error::Invalid(format!(
            "'{parameter}' exceeds the maximum length of {max} characters"
        )));
    }
    Ok(())
}

/// Cuts a text to `max` characters.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max
        && let Some((end, _)) = text.char_indices().nth(max)
    {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_that_are_safe_as_file_names() {
        for key in [
            "loss",
            "train/loss",
            "a b:c-d_e.f",
            "é",
            "..a".trim_start_matches(".."),
        ] {
            assert!(check(key, "key").is_ok(), "{key}");
        }
        for key in [
            "../x", "/x", "x/", "a//b", "a/./b", ".", "..", "a%b", "a\nb", "a\\b", "",
        ] {
            assert!(check(key, "key").is_err(), "{key:?}");
        }
        assert!(check(&"é".repeat(250), "key").is_ok());
        assert!(check(&"é".repeat(251), "key").is_err());
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(cut("ééé".to_owned(), 2), "éé");
        assert_eq!(cut("ab".to_owned(), 2), "ab");
    }
}
