//! Files on their way into a table.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use web::{ApiError, Code};

use crate::error::Error;

/// A file that nobody has locked so long after it was written to was left.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// The most bytes that a file may have.
#[derive(Clone, Copy)]
pub(super) struct Limit(pub(super) u64);

impl Limit {
    fn check(self, size_bytes: u64) -> Result<(), ApiError> {
        if size_bytes <= self.0 {
            return Ok(());
        }
        let message = format!(
            "the file is larger than the {} bytes that one import may bring",
            self.0
        );
        Err(ApiError::new(Code::TooLarge, message).help(
            "import it in parts, whose rows are appended, or raise feature_store.import_limit_bytes",
        ))
    }

    /// Refuses what is said to be too large before it is sent.
    pub(super) fn check_announced(self, headers: &HeaderMap) -> Result<(), ApiError> {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.check(length.unwrap_or_default())
    }
}

/// A file on its way in; removed when dropped.
pub(super) struct Incoming {
    pub(super) path: PathBuf,
    /// Locked for as long: what nobody has locked was left by a server that is gone.
    _locked: File,
}

impl Incoming {
    pub(super) async fn receive(dir: PathBuf, body: Body, limit: Limit) -> Result<Self, ApiError> {
        let failed = || "cannot keep the file while it arrives".to_owned();
        tokio::fs::create_dir_all(&dir)
            .await
            .map_err(Error::io(failed()))?;
        let path = dir.join(ulid::Ulid::new().to_string());
        let file = File::create(&path).map_err(Error::io(failed()))?;
        let locked = file.try_clone();
        let incoming = Self {
            _locked: locked.map_err(Error::io(failed()))?,
            path,
        };
        file.lock().map_err(Error::io(failed()))?;
        let mut file = tokio::fs::File::from_std(file);
        let mut stream = body.into_data_stream();
        let mut size_bytes = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::new(
                    Code::Invalid,
                    format!("the file did not arrive whole: {error}"),
                )
            })?;
            size_bytes += chunk.len() as u64;
            limit.check(size_bytes)?;
            file.write_all(&chunk).await.map_err(Error::io(failed()))?;
        }
        file.flush().await.map_err(Error::io(failed()))?;
        Ok(incoming)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a file that was imported stays behind");
        }
    }
}

/// Removes the files that a server left which was killed while they arrived.
pub(crate) async fn remove_left(dir: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || {
        // Nothing has arrived yet.
        let Ok(files) = std::fs::read_dir(dir) else {
            return;
        };
        for file in files.flatten() {
            if let Err(error) = remove_if_left(&file.path()) {
                tracing::warn!(path = %file.path().display(), %error, "a file that was left stays behind");
            }
        }
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "files that were left stay behind");
    }
}

fn remove_if_left(path: &Path) -> std::io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let written = file.metadata()?.modified()?;
    let old = written.elapsed().is_ok_and(|age| age > LEFT_AFTER);
    if old && file.try_lock().is_ok() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn age(path: &Path) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * LEFT_AFTER)
            .unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_removed_and_what_arrives_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        remove_left(path.join("nothing")).await;
        let receive = || Incoming::receive(path.clone(), Body::from("rows"), Limit(100));
        let (arrived, fresh) = (receive().await.unwrap(), path.join("fresh"));
        age(&arrived.path);
        let left = path.join("left");
        for file in [&left, &fresh] {
            std::fs::write(file, "rows").unwrap();
        }
        age(&left);
        remove_left(path.clone()).await;
        assert!(arrived.path.exists() && fresh.exists() && !left.exists());
        let gone = arrived.path.clone();
        drop(arrived);
        assert!(!gone.exists());
        assert!(
            Incoming::receive(path, Body::from("rows"), Limit(3))
                .await
                .is_err()
        );
    }
}
