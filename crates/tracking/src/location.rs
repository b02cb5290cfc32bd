//! A place in the artifact store, parsed once and unable to leave it.
//!
//! Published mistakes of this field (CVE-2023-1177, CVE-2023-2780, CVE-2024-1560, CVE-2024-1593)
//! were paths that meant one thing to the check and another to the store. Here the check is the
//! only way to a [`Location`], and everything after it takes nothing else.

use percent_encoding::percent_decode_str;

use crate::error::Error;

/// The scheme of URIs that this server's artifact store answers.
pub(crate) const SCHEME: &str = "mlflow-artifacts:";

/// The folder of unfinished uploads; no location is inside it.
pub(crate) const UPLOADS: &str = ".uploads";

/// The longest name of a file or folder that every file system takes, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The longest key that S3 takes, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// A file or folder of the artifact store: `mlflow-artifacts:/a/b` has the key `a/b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    key: String,
}

impl Location {
    /// The store itself.
    pub fn root() -> Self {
        Self { key: String::new() }
    }

    /// The place that an `mlflow-artifacts:/...` URI names.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] for another scheme and for another server, and what [`Self::join`]
    /// refuses.
    pub fn parse_uri(uri: &str) -> Result<Self, Error> {
        let Some(path) = uri.strip_prefix(SCHEME) else {
            return Err(invalid(uri, "it is not an mlflow-artifacts:/ URI"));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        let Some(path) = path.strip_prefix('/') else {
            return Err(invalid(uri, "it names another server"));
        };
        Self::root().join(path)
    }

    /// The place at a relative path below this one; an empty path is this place. The path is
    /// taken as it is: whoever reads it from a URL decodes it once before.
    ///
    /// # Errors
    /// [`Error::PathLeadsOut`] when the path is absolute, holds `..` or a drive letter, or would do
    /// so after any further percent-decoding; [`Error::InvalidPath`] for a backslash, `;` or a
    /// control character.
    pub fn join(&self, path: &str) -> Result<Self, Error> {
        check_every_reading(path)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let key = match (self.key.is_empty(), path.is_empty()) {
            (_, true) => self.key.clone(),
            (true, false) => path.to_owned(),
            (false, false) => format!("{}/{path}", self.key),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(invalid(path, "it is longer than 1024 bytes"));
        }
        if key.split('/').next() == Some(UPLOADS) {
            return Err(invalid(path, "unfinished uploads are no artifacts"));
        }
        Ok(Self { key })
    }

    /// `mlflow-artifacts:/KEY`.
    pub fn uri(&self) -> String {
        format!("{SCHEME}/{}", self.key)
    }

    /// The names from the store's root to here, with `/` between them; empty for the root.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The last name of the key; empty for the root.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// This place and the folders that it is in, but for the store itself.
    pub fn self_and_above(&self) -> impl Iterator<Item = Self> {
        let key = &self.key;
        let folders = key.match_indices('/').map(|(end, _)| &key[..end]);
        folders
            .chain((!key.is_empty()).then_some(key.as_str()))
            .map(|key| Self {
                key: key.to_owned(),
            })
    }

    /// Whether this is `folder` or something below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.below(folder).is_some()
    }

    /// The path from `folder` to here; empty when it is the same place.
    pub fn below(&self, folder: &Self) -> Option<&str> {
        if folder.key.is_empty() {
            return Some(&self.key);
        }
        let rest = self.key.strip_prefix(&folder.key)?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('/')
    }
}

/// Checks a path as it is, and that it stays a path downwards if some later reader decodes it
/// again and again. Names with a percent sign are fine: clients log images as `a%step%20%.png`.
fn check_every_reading(path: &str) -> Result<(), Error> {
    check(path)?;
    let mut reading = path.to_owned();
    for _ in 0..8 {
        let decoded = percent_decode_str(&reading).decode_utf8_lossy();
        if decoded == reading {
            return Ok(());
        }
        reading = decoded.into_owned();
        // What follows a NUL or a semicolon may be cut off by such a reader.
        let first = |name: &str| name.split(['\0', ';']).next() == Some("..");
        if reading.split(['/', '\\']).any(first) || reading.starts_with(['/', '\\']) {
            return Err(leads_out(
                path,
                "it leads out of its folder once it is decoded",
            ));
        }
    }
    Err(invalid(path, "it is percent-encoded many times over"))
}

fn check(path: &str) -> Result<(), Error> {
    if path.starts_with('/') {
        return Err(leads_out(path, "it is absolute"));
    }
    if path.contains(['\\', ';']) {
        return Err(invalid(path, "it holds a backslash or a semicolon"));
    }
    if path.chars().any(char::is_control) {
        return Err(invalid(path, "it holds a control character"));
    }
    let drive = path.as_bytes();
    if drive.len() >= 2 && drive[0].is_ascii_alphabetic() && drive[1] == b':' {
        return Err(leads_out(path, "it starts with a drive letter"));
    }
    let names = path.strip_suffix('/').unwrap_or(path);
    if names.is_empty() {
        return Ok(());
    }
    for name in names.split('/') {
        if name.is_empty() || name == "." || name == ".." {
            return Err(leads_out(
                path,
                "each part of it must be a name, not '.', '..' or nothing",
            ));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(invalid(path, "a part of it is longer than 255 bytes"));
        }
    }
    Ok(())
}

fn leads_out(path: &str, reason: &'static str) -> Error {
    Error::PathLeadsOut {
        path: path.to_owned(),
        reason,
    }
}

fn invalid(path: &str, reason: &'static str) -> Error {
    Error::InvalidPath {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uri_and_its_key_are_the_same_place() {
        let location = Location::parse_uri("mlflow-artifacts:/1/run/artifacts").unwrap();
        assert_eq!(location.key(), "1/run/artifacts");
        assert_eq!(
            location.join("model/MLmodel").unwrap().uri(),
            "mlflow-artifacts:/1/run/artifacts/model/MLmodel"
        );
        assert_eq!(
            Location::parse_uri("mlflow-artifacts:///1").unwrap().key(),
            "1"
        );
        assert_eq!(location.join("").unwrap(), location);
        assert_eq!(location.join("model/").unwrap().name(), "model");
    }

    #[test]
    fn another_scheme_or_server_is_refused() {
        for uri in [
            "file:///etc/passwd",
            "s3://bucket/key",
            "/etc/passwd",
            "mlflow-artifacts://host/a",
            "mlflow-artifacts:a",
            "",
        ] {
            assert!(Location::parse_uri(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn known_tricks_are_refused() {
        let folder = Location::parse_uri("mlflow-artifacts:/1/run/artifacts").unwrap();
        for path in [
            "..",
            "../x",
            "a/../../x",
            "a/..",
            "./a",
            "a//b",
            "/etc/passwd",
            "..\\x",
            "a\\..\\..\\x",
            "%2e%2e/x",
            "%2E%2E%2Fx",
            "%252e%252e%252fx",
            "%25252e%25252e/x",
            "a/..%00/x",
            "a/..%3b/x",
            "a%5c..%5cx",
            "a%2f..%2f..%2fx",
            "..;/x",
            "a;b",
            "a\0b",
            "a\nb",
            "C:/x",
            "c:x",
            "file:///etc/passwd",
        ] {
            assert!(folder.join(path).is_err(), "{path:?}");
        }
        assert!(Location::root().join(".uploads/x").is_err());
        assert!(folder.join(&"a/".repeat(600)).is_err());
        assert!(folder.join(&"a".repeat(256)).is_err());
    }

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        let folder = Location::root();
        for path in [
            "100%.txt",
            "images/dog%step%80%timestamp%100%5c00c0.png",
            "a b/é ü.txt",
            "x#y",
            "what?",
            "step:1",
            "...",
            "..a",
            ".hidden",
        ] {
            assert_eq!(folder.join(path).unwrap().key(), path);
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_within() {
        let folder = Location::root().join("1/run").unwrap();
        assert!(folder.join("a").unwrap().is_within(&folder));
        assert!(
            !Location::root()
                .join("1/runner")
                .unwrap()
                .is_within(&folder)
        );
    }

    fn hostile_part() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("/".to_owned()),
            Just("\\".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%5c".to_owned()),
            Just("%25".to_owned()),
            Just(";".to_owned()),
            Just("\0".to_owned()),
            Just("C:".to_owned()),
            "[a-z]{1,3}",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn no_sequence_of_joins_escapes(
            steps in prop::collection::vec(prop::collection::vec(hostile_part(), 0..5), 1..5),
            encodings in 0..4_usize,
        ) {
            let folder = Location::parse_uri("mlflow-artifacts:/1/run/artifacts").unwrap();
            let mut place = folder.clone();
            for step in steps {
                let mut path = step.concat();
                for _ in 0..encodings {
                    path = utf8_percent_encode(&path, NON_ALPHANUMERIC).to_string();
                }
                if let Ok(next) = place.join(&path) {
                    place = next;
                }
            }
            // Whatever a file system or a URL reader makes of the key, it stays below the folder.
            let mut reading = place.key().to_owned();
            for _ in 0..6 {
                let mut depth = 0_i32;
                prop_assert!(!reading.starts_with(['/', '\\']));
                for name in reading.split(['/', '\\']) {
                    depth += if name == ".." { -1 } else { 1 };
                    prop_assert!(depth >= 0 && name != "..");
                }
                reading = percent_decode_str(&reading).decode_utf8_lossy().into_owned();
            }
            prop_assert!(place.is_within(&folder));
        }
    }
}
