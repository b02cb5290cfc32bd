//! What is removed when nobody needs it any more: environments, and uv's cache when it is large.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sandbox::Mechanism;

use crate::Environments;
use crate::error::Error;

const DAY: u64 = 24 * 3600;

/// What [`Environments::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub environments: usize,
    pub cache: bool,
    /// Lists of requirements whose meaning is no longer known.
    pub resolutions: usize,
}

/// What the store takes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub environments: usize,
    /// Those that nobody has used for `environments.keep_unused_days`.
    pub unused: usize,
    pub cache_bytes: u64,
}

impl Environments {
    /// Removes the environments that nobody holds, that were not used for
    /// `environments.keep_unused_days` and that are not among `needed`; uv's cache when it is
    /// larger than `environments.cache_limit_bytes` and nothing is being built; and resolutions
    /// beyond `environments.resolutions_limit_bytes`.
    ///
    /// # Errors
    /// [`Error::Store`] when the folders cannot be read or changed.
    pub async fn prune(&self, needed: HashSet<String>) -> Result<Pruned, Error> {
        let builds = u32::try_from(self.config.max_builds.max(1)).unwrap_or(u32::MAX);
        // With all permits taken no build can be under way.
        let no_builds = self.builds.clone().try_acquire_many_owned(builds).ok();
        let (store, before) = (self.store.clone(), self.unused_before());
        let limit = self.config.cache_limit_bytes;
        let resolutions_limit = self.config.resolutions_limit_bytes;
        self.on_disk("remove what nobody needs from", move || {
            let mut pruned = Pruned::default();
            if let Some(before) = before {
                for key in store.unused(before)? {
                    if !needed.contains(&key) && store.remove(&key, before)? {
                        tracing::info!(key, "an unused environment was removed");
                        pruned.environments += 1;
                    }
                }
            }
            let large = limit > 0 && size_bytes(&store.uv_cache())? > limit;
            if large && no_builds.is_some() {
                store.clear_cache()?;
                pruned.cache = true;
                tracing::info!(
                    limit,
                    "uv's cache was larger than its limit and was removed"
                );
            }
            if resolutions_limit > 0 {
                pruned.resolutions = store.forget_resolutions(resolutions_limit)?;
            }
            Ok(pruned)
        })
        .await
    }

    /// What the store holds.
    ///
    /// # Errors
    /// [`Error::Store`] when the folders cannot be read.
    pub async fn kept(&self) -> Result<Kept, Error> {
        let (store, before) = (self.store.clone(), self.unused_before());
        self.on_disk("look through", move || {
            Ok(Kept {
                environments: store
                    .unused(SystemTime::now() + Duration::from_secs(DAY))?
                    .len(),
                unused: before
                    .map_or(Ok(0), |before| store.unused(before).map(|keys| keys.len()))?,
                cache_bytes: size_bytes(&store.uv_cache())?,
            })
        })
        .await
    }

    /// What the store holds and for how long, in words.
    pub async fn kept_in_words(&self) -> Vec<Mechanism> {
        let kept = match self.kept().await {
            Ok(kept) => kept,
            Err(error) => {
                let fix = "see that the server's user may read and write the data directory";
                return vec![Mechanism::missing("environments", error.to_string(), fix)];
            }
        };
        let count = kept.environments;
        let environments = match self.config.keep_unused_days {
            0 => format!("{count}, never removed (environments.keep_unused_days)"),
            days => format!(
                "{count}, of which {} were not used for {days} days and are removed unless a registered version needs them (environments.keep_unused_days)",
                kept.unused
            ),
        };
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let cache = match self.config.cache_limit_bytes {
            0 => format!(
                "{} MB, never removed (environments.cache_limit_bytes)",
                megabytes(kept.cache_bytes)
            ),
            limit => format!(
                "{} MB, removed beyond {} MB (environments.cache_limit_bytes)",
                megabytes(kept.cache_bytes),
                megabytes(limit)
            ),
        };
        vec![
            Mechanism::available("environments", environments),
            Mechanism::available("package cache", cache),
        ]
    }

    fn unused_before(&self) -> Option<SystemTime> {
        let days = u64::from(self.config.keep_unused_days);
        (days > 0).then(|| SystemTime::now() - Duration::from_secs(days * DAY))
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        attempt: &'static str,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let path = self.store.complete().to_owned();
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|_| Error::stopping())?;
        done.map_err(|source| Error::Store {
            attempt,
            path,
            source,
        })
    }
}

/// The room that a folder takes on the disk; files with several names count once.
fn size_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut seen = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Files come and go while uv works.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.nlink() == 1 || seen.insert((found.dev(), found.ino())) {
                bytes += found.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        let once = size_bytes(dir.path()).unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("again")).unwrap();
        assert!(once >= 100_000);
        assert_eq!(size_bytes(dir.path()).unwrap(), once);
        assert_eq!(size_bytes(&dir.path().join("none")).unwrap(), 0);
    }
}
