//! What serde says of a value that does not fit, in the words of JSON.

use crate::FieldError;

/// serde's names of what was expected, and JSON's.
const EXPECTED: [(&str, &str); 9] = [
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("a borrowed string", "a text"),
    ("a string", "a text"),
    ("a boolean", "true or false"),
    ("unit", "null"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("struct", "an object"),
];
/// serde's names of what was found, and JSON's.
const FOUND: [(&str, &str); 6] = [
    ("sequence", "a list"),
    ("map", "an object"),
    ("boolean `", "`"),
    ("integer `", "`"),
    ("floating point `", "`"),
    ("string \"", "the text \""),
];

/// The error of a field, at `path` or, where it is missing, at its own name.
pub(crate) fn of_field(
    path: impl Iterator<Item = String>,
    error: &serde_json::Error,
) -> FieldError {
    let text = error.to_string();
    let missing = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match missing {
        Some(name) => FieldError::body(
            path.filter(|part| part != ".").chain([name.to_owned()]),
            "this field is required",
        ),
        None => FieldError::body(path, json_mistake(error)),
    }
}

/// Why a value does not fit.
pub fn json_mistake(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match text.rfind(" at line ") {
        Some(at) => &text[..at],
        None => &text,
    };
    let parts = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match parts {
        Some((found, expected)) => {
            format!(
                "must be {}, not {}",
                as_json(expected),
                found_as_json(found)
            )
        }
        None => text.to_owned(),
    }
}

fn as_json(expected: &str) -> String {
    let whole = |text: &str| {
        let rest = text.trim_start_matches(['u', 'i']);
        rest.len() < text.len() && (rest == "size" || rest.parse::<u8>().is_ok())
    };
    if whole(expected) {
        return "a whole number".to_owned();
    }
    EXPECTED
        .iter()
        .find(|(name, _)| expected == *name || expected.starts_with(&format!("{name} ")))
        .map_or_else(|| expected.to_owned(), |(_, word)| (*word).to_owned())
}

fn found_as_json(found: &str) -> String {
    FOUND
        .iter()
        .find_map(|(name, word)| Some(format!("{word}{}", found.strip_prefix(name)?)))
        .unwrap_or_else(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn refused<T: serde::de::DeserializeOwned>(json: &str) -> String {
        match serde_json::from_str::<T>(json) {
            Ok(_) => panic!("{json} was taken"),
            Err(error) => json_mistake(&error),
        }
    }

    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_json() {
        for (told, expected) in [
            (
                refused::<Vec<String>>("\"numpy\""),
                "must be a list, not the text \"numpy\"",
            ),
            (
                refused::<usize>("\"x\""),
                "must be a whole number, not the text \"x\"",
            ),
            (refused::<u32>("-1"), "must be a whole number, not `-1`"),
            (refused::<f64>("true"), "must be a number, not `true`"),
            (refused::<bool>("[1]"), "must be true or false, not a list"),
            (refused::<String>("{}"), "must be a text, not an object"),
            (
                refused::<BTreeMap<String, u8>>("null"),
                "must be an object, not null",
            ),
        ] {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_missing_field_is_an_error_of_that_field() {
        #[derive(Debug, serde::Deserialize)]
        struct Question {
            #[expect(dead_code, reason = "only its absence matters")]
            inputs: u8,
        }
        let error = serde_json::from_str::<Question>("{}").unwrap_err();
        let field = of_field([".".to_owned()].into_iter(), &error);
        assert_eq!(field.loc, ["body", "inputs"]);
        assert_eq!(field.msg, "this field is required");
    }
}
