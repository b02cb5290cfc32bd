//! The script of a job: how it comes in, and what its file is called.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How `script_content` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScriptEncoding {
    /// Base64 when it decodes to readable text, else plain text.
    #[default]
    Auto,
    Base64,
    Plain,
}

/// Takes the script out of `script_content`. Base64 may be wrapped over lines.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(crate) fn decode(content: &str, encoding: ScriptEncoding) -> Result<String, String> {
    let script = match encoding {
        ScriptEncoding::Plain => content.to_owned(),
        ScriptEncoding::Base64 => {
            let bytes = base64_bytes(content).ok_or("it is not valid base64")?;
            String::from_utf8(bytes).map_err(|_| "the decoded script is not UTF-8 text")?
        }
        ScriptEncoding::Auto => base64_bytes(content)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| is_text(text))
            .unwrap_or_else(|| content.to_owned()),
    };
    if script.trim().is_empty() {
        return Err("the script is empty".to_owned());
    }
    if script.contains('\0') {
        return Err("the script holds a NUL byte, which Python does not accept".to_owned());
    }
    Ok(script)
}

fn base64_bytes(content: &str) -> Option<Vec<u8>> {
    let joined: String = content
        .trim()
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(joined)
        .ok()
}

/// Whether a text could be a program: plain words that happen to be base64 decode to control bytes.
fn is_text(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}'))
}

/// The longest file name, in bytes.
const FILE_NAME_LIMIT: usize = 120;

/// The name of the script's file: the last part of the given name, harmless, ending in `.py`.
pub(crate) fn file_name(script_name: &str) -> String {
    let last = script_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = last.strip_suffix(".py").unwrap_or(last);
    let mut name = String::new();
    for c in stem.trim().chars() {
        let c = if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') {
            c
        } else {
            '_'
        };
        if name.len() + c.len_utf8() > FILE_NAME_LIMIT {
            break;
        }
        name.push(c);
    }
    let name = name.trim_start_matches('.');
    if name.is_empty() {
        "script.py".to_owned()
    } else {
        format!("{name}.py")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_recognised_and_anything_else_is_plain() {
        let auto = |content| decode(content, ScriptEncoding::Auto).unwrap();
        assert_eq!(auto("aW1wb3J0IG1sZmxvdw=="), "import mlflow");
        assert_eq!(auto("aW1wb3J0\r\nIG1sZmxvdw==\n"), "import mlflow");
        assert_eq!(auto("import mlflow\n"), "import mlflow\n");
        assert_eq!(auto("abcd"), "abcd");
        assert_eq!(auto("print('✅')"), "print('✅')");
        assert_eq!(auto("cHJpbnQoJ+KchScp"), "print('✅')");
    }

    #[test]
    fn a_said_encoding_is_held() {
        assert_eq!(
            decode("YWJjZA==", ScriptEncoding::Plain).unwrap(),
            "YWJjZA=="
        );
        assert!(
            decode("import os", ScriptEncoding::Base64)
                .unwrap_err()
                .contains("base64")
        );
        assert!(
            decode("/w==", ScriptEncoding::Base64)
                .unwrap_err()
                .contains("UTF-8")
        );
    }

    #[test]
    fn nothing_is_not_a_script() {
        assert!(decode(" \n", ScriptEncoding::Auto).is_err());
        assert!(decode("a\0b", ScriptEncoding::Plain).is_err());
    }

    #[test]
    fn a_script_keeps_its_own_name_but_cannot_leave_its_folder() {
        for (given, expected) in [
            ("train", "train.py"),
            ("train.py", "train.py"),
            ("my model.py", "my_model.py"),
            ("../../etc/passwd", "passwd.py"),
            ("..", "script.py"),
            (".bashrc", "bashrc.py"),
            ("a\nb", "a_b.py"),
            ("C:\\x\\übung.py", "übung.py"),
        ] {
            assert_eq!(file_name(given), expected, "{given:?}");
        }
        assert!(file_name(&"ü".repeat(500)).len() <= FILE_NAME_LIMIT + 3);
    }
}
