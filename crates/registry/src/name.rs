//! What models, aliases and tags may be called (`mlflow/utils/validation.py`).

use crate::error::Error;

/// The longest name of a model, in characters.
const MAX_NAME_CHARS: usize = 256;

/// The longest alias, in characters.
const MAX_ALIAS_CHARS: usize = 255;

/// The longest key of a tag, in characters.
const MAX_KEY_CHARS: usize = 250;

/// The longest value of a tag, in characters.
const MAX_VALUE_CHARS: usize = 100_000;

/// What the keys of the server's own tags begin with.
const RESERVED_PREFIX: &str = "asgard.";

/// Checks the name of a new model. Names appear in URIs, so they are no paths.
pub(crate) fn check_model(name: &str) -> Result<(), Error> {
    if name.trim().is_empty() {
        return Err(tracking::Error::Missing("name".to_owned()).into());
    }
    if name.contains(['/', ':']) {
        return Err(Error::Invalid(format!(
            "Invalid model name '{name}'. Names cannot contain '/' or ':'."
        )));
    }
    if name == "." || name == ".." || name.chars().any(char::is_control) {
        return Err(Error::Invalid(format!(
            "Invalid model name {name:?}. Names may be used as file paths: '.', '..' and control \
             characters are not allowed."
        )));
    }
    check_length("name", name, MAX_NAME_CHARS)
}

/// Checks an alias that is to be set; `latest` and `v3` mean something else.
pub(crate) fn check_alias(alias: &str) -> Result<(), Error> {
    if alias.is_empty() {
        return Err(Error::Invalid(
            "Registered model alias name cannot be empty.".to_owned(),
        ));
    }
    let fits = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if !alias.chars().all(fits) {
        return Err(Error::Invalid(format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), \
             and dashes (-)."
        )));
    }
    check_length("Registered model alias name", alias, MAX_ALIAS_CHARS)?;
    if alias.eq_ignore_ascii_case("latest") {
        return Err(Error::Invalid(
            "'latest' alias name (case insensitive) is reserved.".to_owned(),
        ));
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Invalid(format!(
            "Version alias name '{alias}' is reserved."
        )));
    }
    Ok(())
}

/// Checks a tag.
pub(crate) fn check_tag(key: &str, value: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_alphanumeric() || "/_.- :".contains(c);
    let path = key.starts_with('/')
        || key
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
    if key.is_empty() || path || !key.chars().all(fits) {
        return Err(Error::Invalid(format!(
            "Invalid value \"{key}\" for parameter 'key' supplied: Names may only contain \
             alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and \
             slashes (/), and are no paths out of a folder."
        )));
    }
    check_length("key", key, MAX_KEY_CHARS)?;
    check_length("value", value, MAX_VALUE_CHARS)
}

/// Checks several tags.
pub(crate) fn check_tags(tags: &[(String, String)]) -> Result<(), Error> {
    tags.iter()
        .try_for_each(|(key, value)| check_tag(key, value))
}

/// Checks that a caller leaves alone the tags that this server sets: serving relies on them.
pub(crate) fn check_not_reserved(key: &str) -> Result<(), Error> {
    if key.starts_with(RESERVED_PREFIX) {
        return Err(Error::Invalid(format!(
            "Invalid tag key '{key}': the prefix '{RESERVED_PREFIX}' is reserved for tags that the \
             server sets; choose another key"
        )));
    }
    Ok(())
}

fn check_length(what: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.chars().count() > most {
        return Err(Error::Invalid(format!(
            "'{what}' exceeds the maximum length of {most} characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_no_uri() {
        for name in ["iris", "my model", "Größe", "a.b-c_d", "$(reboot)`x`"] {
            check_model(name).unwrap();
        }
        for name in ["", "  ", "a/b", "models:x", "..", ".", "a\nb", "a\0"] {
            assert!(check_model(name).is_err(), "{name:?}");
        }
        assert!(check_model(&"a".repeat(257)).is_err());
    }

    #[test]
    fn words_with_a_meaning_are_no_aliases() {
        for alias in ["champion", "A-b_1", "v", "version1", "vx1"] {
            check_alias(alias).unwrap();
        }
        for alias in ["", "latest", "LATEST", "v1", "V23", "a b", "a@b", "a.b"] {
            assert!(check_alias(alias).is_err(), "{alias:?}");
        }
    }

    #[test]
    fn tags_have_plain_keys_and_any_text() {
        check_tag("team/owner: a.b-c", "").unwrap();
        check_tag("mlflow.prompt.is_prompt", "true").unwrap();
        for key in ["", "../x", "/x", "a//b", "a\nb", "x\"y"] {
            assert!(check_tag(key, "v").is_err(), "{key:?}");
        }
        assert!(check_tag("k", &"x".repeat(100_001)).is_err());
    }
}
