//! The key that a model server asks its callers for, where it has no database of keys. It is told
//! the key's SHA-256 alone: that opens nothing, since a key is long and random.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a key, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelKey(String);

/// The variable by which a model server learns it.
const VARIABLE: &str = "ASGARD_MODEL_KEY_SHA256";

impl ModelKey {
    /// The shortest key, in characters: a shorter one could be found from its SHA-256.
    pub const SHORTEST: usize = 32;

    /// Of a key.
    pub fn of(key: &str) -> Self {
        Self(format!("{:x}", Sha256::digest(key)))
    }

    /// What the environment of a model server names.
    pub fn of_environment(environment: &[(String, String)]) -> Option<Self> {
        let mut named = environment.iter().filter(|(name, _)| name == VARIABLE);
        named.next().map(|(_, digest)| Self(digest.to_lowercase()))
    }

    /// The variable that names it.
    pub fn to_environment(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.0.clone())
    }

    /// Whether what a caller sent is the key.
    pub fn is(&self, sent: &str) -> bool {
        // How soon two digests differ tells nothing of the key.
        Self::of(sent) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_is_taken() {
        let told = ModelKey::of("a long and random key").to_environment();
        let known = ModelKey::of_environment(&[("PATH".to_owned(), String::new()), told]).unwrap();
        assert!(known.is("a long and random key"));
        assert!(!known.is("") && !known.is(&known.0));
        assert_eq!(ModelKey::of_environment(&[]), None);
        let empty = (VARIABLE.to_owned(), String::new());
        let closed = ModelKey::of_environment(&[empty]).unwrap();
        assert!(!closed.is(""), "what cannot be a digest opens nothing");
    }
}
