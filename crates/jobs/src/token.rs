//! A job's token: random, told to its script alone, stored as a hash, gone with the job.

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::{Jobs, store};

const PREFIX: &str = "asgj_";

/// Makes a token of 256 random bits.
pub(crate) fn generate() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        what: "drawing random bytes for a job's token",
        source: std::io::Error::other(error.to_string()),
    })?;
    let mut token = PREFIX.to_owned();
    for byte in bytes {
        token.push_str(&format!("{byte:02x}"));
    }
    Ok(token)
}

/// What is stored of a token.
pub(crate) fn hash(token: &str) -> String {
    format!("{:x}", Sha256::digest(token.as_bytes()))
}

impl Jobs {
    /// The running job that a token was made for.
    pub async fn authenticate(&self, token: &str) -> Result<Option<String>, Error> {
        if !token.starts_with(PREFIX) {
            return Ok(None);
        }
        let mut conn = self.db().acquire().await?;
        Ok(store::jobs::find_by_token(&mut conn, &hash(token)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_their_hash_does_not_show_them() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == PREFIX.len() + 64 && !hash(&a).contains(&a));
    }
}
