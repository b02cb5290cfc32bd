//! API keys: made once, shown once, kept as a hash.
//!
//! A key is `asg_ID_SECRET`. The id finds the row and may be shown anywhere; of the secret, 256
//! random bits, only the SHA-256 is kept. That much randomness needs no slow password hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use db::Db;
use sha2::{Digest, Sha256};
use web::{Identity, Role};

use crate::store;

/// What every key begins with, so that scanners for leaked secrets know one.
const PREFIX: &str = "asg_";

/// How stale the time of last use may be: it is not worth a write per request.
const LAST_USED_STEP_MS: i64 = 60_000;

/// The migrations of the keys' table.
pub const MIGRATIONS: db::Migrations = store::keys::MIGRATIONS;

/// A key without its secret. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

impl Key {
    /// Whether the key opens anything at `now`.
    pub fn is_valid(&self, now: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// What can go wrong with keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a key named {0:?} exists already")]
    NameTaken(String),
    #[error("a key's name has 1 to 64 letters, digits, '-', '_' or '.', not {0:?}")]
    BadName(String),
    #[error("no key has the id or name {0:?}")]
    NotFound(String),
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// The keys of this server; cheap to clone.
#[derive(Clone)]
pub struct Keys {
    db: Db,
}

impl Keys {
    /// The keys in this database.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Makes a key and gives its text, which is never to be had again.
    pub async fn create(
        &self,
        name: &str,
        role: Role,
        expires_at: Option<i64>,
        now: i64,
    ) -> Result<(Key, String), Error> {
        check_name(name)?;
        let (id, secret) = mint()?;
        let key = Key {
            id,
            name: name.to_owned(),
            role,
            created_at: now,
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let mut tx = self.db.begin().await?;
        let taken = store::keys::find(&mut tx, name).await?;
        if taken.is_some_and(|k| k.is_valid(now)) {
            return Err(Error::NameTaken(name.to_owned()));
        }
        store::keys::insert(&mut tx, &key, &hash(&secret)).await?;
        tx.commit().await?;
        let text = format!("{PREFIX}{}_{secret}", key.id);
        Ok((key, text))
    }

    /// All keys, newest first, also those that are no longer valid.
    pub async fn list(&self) -> Result<Vec<Key>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(store::keys::list(&mut conn).await?)
    }

    /// Ends a key, named by its id or its name. Ending it twice changes nothing.
    pub async fn revoke(&self, id_or_name: &str, now: i64) -> Result<Key, Error> {
        let mut tx = self.db.begin().await?;
        let key = store::keys::find(&mut tx, id_or_name)
            .await?
            .ok_or_else(|| Error::NotFound(id_or_name.to_owned()))?;
        store::keys::set_revoked(&mut tx, &key.id, now).await?;
        tx.commit().await?;
        Ok(Key {
            revoked_at: key.revoked_at.or(Some(now)),
            ..key
        })
    }

    /// Whether any key would let someone in now.
    pub async fn any_valid(&self, now: i64) -> Result<bool, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(store::keys::any_valid(&mut conn, now).await?)
    }

    /// Whether this text has the form of a key; job tokens have another.
    pub fn is_key(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// The identity of who holds this key, if it is valid.
    pub async fn authenticate(&self, token: &str, now: i64) -> Result<Option<Identity>, Error> {
        let Some((id, secret)) = token
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
        else {
            return Ok(None);
        };
        let mut conn = self.db.acquire().await?;
        let found = store::keys::find_with_hash(&mut conn, id).await?;
        drop(conn);
        let Some((key, stored)) = found else {
            return Ok(None);
        };
        // Comparing hashes tells an attacker nothing about the secret, however long it takes.
        if stored != hash(secret) || !key.is_valid(now) {
            return Ok(None);
        }
        if key
            .last_used_at
            .is_none_or(|at| now - at >= LAST_USED_STEP_MS)
        {
            let mut tx = self.db.begin().await?;
            store::keys::set_last_used(&mut tx, &key.id, now).await?;
            tx.commit().await?;
        }
        Ok(Some(Identity::Key {
            id: key.id,
            name: key.name,
            role: key.role,
        }))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Error::BadName(name.to_owned()));
    }
    Ok(())
}

/// A new id (12 hexadecimal digits) and a new secret.
fn mint() -> Result<(String, String), Error> {
    let mut bytes = [0_u8; 38];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    let (id, secret) = bytes.split_at(6);
    let id = id.iter().map(|b| format!("{b:02x}")).collect();
    Ok((id, URL_SAFE_NO_PAD.encode(secret)))
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_256_bits_and_its_id_no_underscore() {
        let (id, secret) = mint().unwrap();
        assert_eq!(
            (id.len(), URL_SAFE_NO_PAD.decode(&secret).unwrap().len()),
            (12, 32)
        );
        assert!(!id.contains('_'));
        assert_ne!(mint().unwrap().1, secret);
    }

    #[tokio::test]
    async fn a_key_opens_until_it_is_revoked_or_expires() {
        for db in db::testing::both(&[MIGRATIONS]).await {
            let keys = Keys::new((*db).clone());
            let (key, text) = keys.create("ci", Role::Runner, Some(100), 1).await.unwrap();
            let identity = keys.authenticate(&text, 99).await.unwrap();
            assert_eq!(identity.unwrap().label(), "key:ci", "{}", db.name);
            assert_eq!(keys.authenticate(&text, 100).await.unwrap(), None);
            assert_eq!(
                keys.authenticate(&format!("{text}x"), 2).await.unwrap(),
                None
            );
            assert_eq!(keys.authenticate("asg_nothing", 2).await.unwrap(), None);
            keys.revoke("ci", 3).await.unwrap();
            assert_eq!(keys.authenticate(&text, 4).await.unwrap(), None);
            assert_eq!(keys.list().await.unwrap()[0].id, key.id);
            assert_eq!(keys.revoke(&key.id, 9).await.unwrap().revoked_at, Some(3));
        }
    }

    #[tokio::test]
    async fn an_old_key_counts_however_many_ended_after_it() {
        for db in db::testing::both(&[MIGRATIONS]).await {
            let keys = Keys::new((*db).clone());
            assert!(!keys.any_valid(1).await.unwrap(), "{}", db.name);
            keys.create("old", Role::Admin, Some(100), 1).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            for i in 0..1_001 {
                let key = Key {
                    id: format!("ended{i}"),
                    name: "ended".to_owned(),
                    role: Role::Viewer,
                    created_at: 2,
                    expires_at: Some(3),
                    revoked_at: None,
                    last_used_at: None,
                };
                store::keys::insert(&mut tx, &key, b"").await.unwrap();
            }
            tx.commit().await.unwrap();
            assert!(keys.any_valid(99).await.unwrap(), "{}", db.name);
            assert!(!keys.any_valid(100).await.unwrap(), "{}", db.name);
        }
    }

    #[tokio::test]
    async fn a_name_is_free_again_once_its_key_has_ended() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let keys = Keys::new((*db).clone());
        keys.create("a", Role::Viewer, None, 1).await.unwrap();
        let again = keys.create("a", Role::Viewer, None, 2).await;
        assert!(matches!(again, Err(Error::NameTaken(_))));
        keys.revoke("a", 3).await.unwrap();
        keys.create("a", Role::Viewer, None, 4).await.unwrap();
        assert_eq!(keys.list().await.unwrap().len(), 2);
        assert!(keys.any_valid(5).await.unwrap());
    }
}
