//! Secrets at rest: sealed with a key that is not in the database.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::config::Config;

/// The file in the data directory that holds the key where the configuration names none.
const FILE: &str = "webhooks.key";

/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Seals and opens secrets; cheap to clone.
#[derive(Clone)]
pub struct Seal(Arc<LessSafeKey>);

/// Why secrets cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The configured key is none.
    #[error(
        "webhooks.secret_key must be {} hexadecimal digits, as 'openssl rand -hex {KEY_BYTES}' prints them",
        KEY_BYTES * 2
    )]
    Setting,
    /// The key's file holds something else.
    #[error(
        "{} must hold {} hexadecimal digits: bring it back from a backup, or remove it and set the webhooks' secrets anew",
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
        "the webhook's secret was sealed with another key than this server's (webhooks.secret_key, or webhooks.key in the data directory): bring that key back, or set the webhook's secret anew"
    )]
    OtherKey,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// The key of the configuration, else that of the data directory, where one is made if there
    /// is none.
    ///
    /// # Errors
    /// When the key is no key, or cannot be read or made.
    pub fn open(config: &Config, data_dir: &Path) -> Result<Self, SealError> {
        match &config.secret_key {
            Some(key) => read_key(key.expose())
                .map(|key| Self::with_key(&key))
                .ok_or(SealError::Setting),
            None => Self::of_file(&data_dir.join(FILE)),
        }
    }

    /// A seal with this key.
    pub fn with_key(key: &[u8; KEY_BYTES]) -> Self {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's length");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    fn of_file(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::Io {
            path: path.to_owned(),
            source,
        };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(path)?;
                fs::read_to_string(path).map_err(failed)?
            }
            read => read.map_err(failed)?,
        };
        let key = read_key(text.trim()).ok_or_else(|| SealError::File(path.to_owned()))?;
        Ok(Self::with_key(&key))
    }

    /// Seals a secret for the webhook with this id: it opens for no other.
    pub(crate) fn seal(&self, webhook_id: &str, secret: &str) -> Result<String, SealError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = secret.as_bytes().to_vec();
        let (unique, id) = (Nonce::assume_unique_for_key(nonce), Aad::from(webhook_id));
        self.0
            .seal_in_place_append_tag(unique, id, &mut sealed)
            .expect("a secret is shorter than the cipher's limit");
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what [`Self::seal`] made for this webhook.
    pub(crate) fn unseal(&self, webhook_id: &str, sealed: &str) -> Result<String, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::OtherKey)?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::OtherKey)?;
        let mut sealed = sealed.to_vec();
        let (unique, id) = (Nonce::assume_unique_for_key(*nonce), Aad::from(webhook_id));
        let opened = self.0.open_in_place(unique, id, &mut sealed);
        let opened = opened.map_err(|_| SealError::OtherKey)?;
        String::from_utf8(opened.to_vec()).map_err(|_| SealError::OtherKey)
    }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
    Ok(bytes)
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
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
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
    fn a_secret_opens_with_its_key_for_its_webhook_and_not_otherwise() {
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
        let open = || Seal::open(&Config::default(), dir.path());
        let sealed = open().unwrap().seal("w", "s").unwrap();
        assert_eq!(open().unwrap().unseal("w", &sealed).unwrap(), "s");
        let file = dir.path().join(FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(&file, "").unwrap();
        assert!(matches!(open(), Err(SealError::File(_))));
    }

    #[test]
    fn a_key_of_the_configuration_is_a_whole_key() {
        let with = |key: &str| Config {
            secret_key: Some(key.to_owned().into()),
            ..Config::default()
        };
        let nowhere = Path::new("/nowhere");
        for wrong in ["", "a", "x".repeat(64).as_str(), "é".repeat(32).as_str()] {
            let refused = Seal::open(&with(wrong), nowhere);
            assert!(matches!(refused, Err(SealError::Setting)), "{wrong}");
        }
        assert!(Seal::open(&with(&"0aF".repeat(21)[..64 - 1]), nowhere).is_err());
        assert!(Seal::open(&with(&"0a".repeat(32)), nowhere).is_ok());
    }
}
