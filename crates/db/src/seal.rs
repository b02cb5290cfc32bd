//! Secrets at rest: sealed with a key that is not in the database.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

/// The file in the data directory that holds the key where the configuration names none.
const FILE: &str = "secrets.key";

/// The same file as it was named while only the secrets of webhooks were sealed.
const EARLIER_FILE: &str = "webhooks.key";

/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Seals and opens secrets; cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<Keys>);

struct Keys {
    cipher: LessSafeKey,
    /// Those that sealed before this one.
    earlier: Vec<LessSafeKey>,
    digests: hmac::Key,
    common: bool,
}

/// Why secrets cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The configured key is none.
    #[error(
        "server.secret_key must be {} hexadecimal digits, as 'openssl rand -hex {KEY_BYTES}' prints them",
        KEY_BYTES * 2
    )]
    Setting,
    /// The key's file holds something else.
    #[error(
        "{} must hold {} hexadecimal digits: bring it back from a backup, or remove it, and what was sealed with it is lost",
        .0.display(), KEY_BYTES * 2
    )]
    File(PathBuf),
    /// The key's file cannot be read or made.
    #[error("cannot read or make {}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers to be had: {0}")]
    Random(String),
    /// What is stored was sealed with another key, or changed.
    #[error(
        "sealed with another key than this server's (server.secret_key, or {FILE} in the data directory): bring that key back"
    )]
    OtherKey,
    /// What was sealed is something else, as another version writes it.
    #[error("what was sealed is no set of variables: another version of asgard wrote it")]
    NoVariables,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// The key of the configuration, else that of the data directory, where one is made if there
    /// is none. What the keys of the data directory sealed before still opens. `alone` says that no
    /// other server uses the database.
    ///
    /// # Errors
    /// When a key is no key, or cannot be read or made.
    pub fn open(key: Option<&str>, data_dir: &Path, alone: bool) -> Result<Self, SealError> {
        let mut keys = Vec::new();
        if let Some(key) = key {
            keys.push(read_key(key).ok_or(SealError::Setting)?);
        }
        for file in [EARLIER_FILE, FILE] {
            let path = data_dir.join(file);
            if path.exists() {
                keys.push(read_file(&path)?);
            }
        }
        if keys.is_empty() {
            let path = data_dir.join(FILE);
            make(&path)?;
            keys.push(read_file(&path)?);
        }
        Ok(Self::with_keys(&keys, alone || key.is_some()))
    }

    /// A seal with this key.
    pub fn with_key(key: &[u8; KEY_BYTES]) -> Self {
        Self::with_keys(&[*key], true)
    }

    /// A seal with the first of these keys, which opens what any of them sealed.
    fn with_keys(keys: &[[u8; KEY_BYTES]], common: bool) -> Self {
        let mut ciphers = keys.iter().map(|key| {
            let cipher = UnboundKey::new(&CHACHA20_POLY1305, key);
            LessSafeKey::new(cipher.expect("the key has the cipher's length"))
        });
        let cipher = ciphers.next().expect("there is a key");
        let key = &keys[0];
        // A key of its own for each use (NIST SP 800-108).
        let of_digests = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"digests");
        Self(Arc::new(Keys {
            cipher,
            earlier: ciphers.collect(),
            digests: hmac::Key::new(hmac::HMAC_SHA256, of_digests.as_ref()),
            common,
        }))
    }

    /// Whether every server on the database opens what this one seals. Where not, what others need
    /// for their work is not to be sealed.
    pub fn is_common(&self) -> bool {
        self.0.common
    }

    /// Seals a secret of what has this id: it opens for no other.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal(&self, id: &str, secret: &str) -> Result<String, SealError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = secret.as_bytes().to_vec();
        let (unique, id) = (Nonce::assume_unique_for_key(nonce), Aad::from(id));
        self.0
            .cipher
            .seal_in_place_append_tag(unique, id, &mut sealed)
            .expect("a secret is shorter than the cipher's limit");
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what [`Self::seal`] made for this id.
    ///
    /// # Errors
    /// [`SealError::OtherKey`].
    pub fn unseal(&self, id: &str, sealed: &str) -> Result<String, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::OtherKey)?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::OtherKey)?;
        let open = |cipher: &LessSafeKey| {
            let mut sealed = sealed.to_vec();
            let unique = Nonce::assume_unique_for_key(*nonce);
            let opened = cipher.open_in_place(unique, Aad::from(id), &mut sealed);
            opened.ok().map(|opened| opened.to_vec())
        };
        let mut ciphers = std::iter::once(&self.0.cipher).chain(&self.0.earlier);
        let opened = ciphers.find_map(open).ok_or(SealError::OtherKey)?;
        String::from_utf8(opened).map_err(|_| SealError::OtherKey)
    }

    /// The same for the same text, and nothing to whoever guesses the text but lacks the key.
    pub fn digest(&self, text: &str) -> String {
        let digest = hmac::sign(&self.0.digests, text.as_bytes());
        hex(digest.as_ref())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<[u8; KEY_BYTES], SealError> {
    let text = fs::read_to_string(path).map_err(|source| SealError::Io {
        path: path.to_owned(),
        source,
    })?;
    read_key(text.trim()).ok_or_else(|| SealError::File(path.to_owned()))
}

fn read_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != KEY_BYTES * 2 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(key)
}

/// Makes the key's file, whole or not at all; another process may have been first.
fn make(path: &Path) -> Result<(), SealError> {
    let failed = |source| SealError::Io {
        path: path.to_owned(),
        source,
    };
    let key: [u8; KEY_BYTES] = random()?;
    let text = hex(&key);
    let unfinished = path.with_extension(format!("key.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // With PostgreSQL and a bucket nothing else has made the data directory yet.
    if let Some(data_dir) = path.parent() {
        fs::create_dir_all(data_dir).map_err(failed)?;
    }
    let mut file = options.open(&unfinished).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished).map_err(failed)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_for_its_id_and_not_otherwise() {
        let seal = Seal::with_key(&[7; KEY_BYTES]);
        let sealed = seal.seal("w1", "s3cret").unwrap();
        assert_ne!(sealed, seal.seal("w1", "s3cret").unwrap());
        assert_eq!(seal.unseal("w1", &sealed).unwrap(), "s3cret");
        let other = Seal::with_key(&[8; KEY_BYTES]);
        for refused in [
            seal.unseal("w2", &sealed),
            seal.unseal("w1", "s3cret"),
            seal.unseal("w1", &sealed[..8]),
            other.unseal("w1", &sealed),
        ] {
            assert!(matches!(refused, Err(SealError::OtherKey)), "{refused:?}");
        }
    }

    #[test]
    fn the_data_directory_keeps_one_key_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Seal::open(None, dir.path(), true);
        let sealed = open().unwrap().seal("w", "s").unwrap();
        assert_eq!(open().unwrap().unseal("w", &sealed).unwrap(), "s");
        // One of the configuration seals from now on, and what was sealed still opens.
        let configured = "0a".repeat(32);
        let both = Seal::open(Some(&configured), dir.path(), false).unwrap();
        assert_eq!(both.unseal("w", &sealed).unwrap(), "s");
        let later = both.seal("w", "t").unwrap();
        assert!(open().unwrap().unseal("w", &later).is_err());
        assert!(both.is_common());
        assert!(!Seal::open(None, dir.path(), false).unwrap().is_common());
        let file = dir.path().join(FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // The key of a version that sealed only the secrets of webhooks.
        fs::rename(&file, dir.path().join(EARLIER_FILE)).unwrap();
        assert_eq!(open().unwrap().unseal("w", &sealed).unwrap(), "s");
        assert!(!file.exists());
        fs::write(dir.path().join(EARLIER_FILE), "").unwrap();
        assert!(matches!(open(), Err(SealError::File(_))));
    }

    #[test]
    fn a_digest_is_one_of_the_text_and_of_the_key() {
        let digest = |key: u8, text: &str| Seal::with_key(&[key; KEY_BYTES]).digest(text);
        assert_eq!(digest(7, "a"), digest(7, "a"));
        assert_ne!(digest(7, "a"), digest(7, "b"));
        assert_ne!(digest(7, "a"), digest(8, "a"));
    }

    #[test]
    fn a_key_of_the_configuration_is_a_whole_key() {
        let nowhere = Path::new("/nowhere");
        for wrong in ["", "a", "x".repeat(64).as_str(), "é".repeat(32).as_str()] {
            let refused = Seal::open(Some(wrong), nowhere, true);
            assert!(matches!(refused, Err(SealError::Setting)), "{wrong}");
        }
        assert!(Seal::open(Some(&"0aF".repeat(21)[..64 - 1]), nowhere, true).is_err());
        assert!(Seal::open(Some(&"0a".repeat(32)), nowhere, true).is_ok());
    }
}
