//! The layers that were made before: what they are called, and their bytes as long as there is
//! room for them.
//!
//! `layers/KEY.json` says which digest a recipe gives; it is a few hundred bytes and stays.
//! `blobs/sha256/HEX` are the bytes, complete or not there. Files and no table of the database:
//! they tell what this machine has, and commands without a server use them too.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::compress::{Compression, Compressor};
use crate::digest::{Digest, Hashed};
use crate::document::Descriptor;
use crate::error::Error;
use crate::layer::Recipe;

/// What a layer is called: uncompressed for the configuration, compressed for the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) diff_id: Digest,
    pub(crate) descriptor: Descriptor,
}

/// The layers of one data directory; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    home: PathBuf,
    compression: Compression,
    /// One layer is made at a time: it takes two processors by itself.
    making: Arc<Mutex<()>>,
}

impl Memory {
    pub(crate) fn open(home: PathBuf, compression: Compression) -> Result<Self, Error> {
        for folder in ["blobs/sha256", "layers", "part"] {
            let folder = home.join(folder);
            fs::create_dir_all(&folder).map_err(Error::file("make the folder", folder))?;
        }
        let memory = Self {
            home,
            compression,
            making: Arc::default(),
        };
        memory.clear_parts()?;
        Ok(memory)
    }

    /// Removes the unfinished files of processes that are gone.
    fn clear_parts(&self) -> Result<(), Error> {
        let folder = self.home.join("part");
        let failed = || Error::file("clear the folder", &folder);
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            // One that is locked is being written; one that is gone was finished meanwhile.
            if let Ok(file) = File::open(&path)
                && file.try_lock().is_ok()
            {
                remove_if_there(&path).map_err(failed())?;
            }
        }
        Ok(())
    }

    /// Where the bytes of a blob are when they are here.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.home.join("blobs/sha256").join(digest.hex())
    }

    /// The bytes of a blob, which counts as used now.
    pub(crate) fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path(digest);
        let file = File::open(&path).ok()?;
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::warn!(%digest, %error, "noting that a layer is used failed");
        }
        Some(path)
    }

    /// What a layer is called; it is made unless that is known. The second says whether it was.
    pub(crate) async fn layer(&self, recipe: &Recipe) -> Result<(Made, bool), Error> {
        let _one = self.making.lock().await;
        if let Some(made) = self.recall(recipe) {
            return Ok((made, true));
        }
        Ok((self.make(recipe).await?, false))
    }

    /// The bytes of a layer, made again when they were removed.
    pub(crate) async fn bytes(&self, recipe: &Recipe, made: &Made) -> Result<PathBuf, Error> {
        let _one = self.making.lock().await;
        let digest = &made.descriptor.digest;
        if let Some(path) = self.find(digest) {
            return Ok(path);
        }
        if self.make(recipe).await?.descriptor.digest != *digest {
            // What it is called now is noted: the next build goes by that.
            return Err(Error::Changed {
                layer: recipe.name(),
            });
        }
        Ok(self.path(digest))
    }

    fn note(&self, recipe: &Recipe) -> Option<PathBuf> {
        let key = recipe.key(self.compression)?;
        Some(self.home.join(format!("layers/{key}.json")))
    }

    fn recall(&self, recipe: &Recipe) -> Option<Made> {
        serde_json::from_slice(&fs::read(self.note(recipe)?).ok()?).ok()
    }

    async fn make(&self, recipe: &Recipe) -> Result<Made, Error> {
        let (memory, recipe) = (self.clone(), recipe.clone());
        let made = tokio::task::spawn_blocking(move || memory.make_now(&recipe)).await;
        made.map_err(|e| Error::io("make a layer")(std::io::Error::other(e)))?
    }

    fn make_now(&self, recipe: &Recipe) -> Result<Made, Error> {
        let name = recipe.name();
        let failed = || Error::io(format!("make the layer of the {name}"));
        let tree = recipe.tree()?;
        let part = self.part()?;
        let out = Hashed::new(BufWriter::new(part.as_file()));
        let mut archive = Hashed::new(Compressor::new(out, self.compression));
        tree.write(&mut archive).map_err(failed())?;
        let (compressor, diff_id, _) = archive.finish();
        let (mut out, digest, size) = compressor.finish().map_err(failed())?.finish();
        out.flush().map_err(failed())?;
        drop(out);
        self.keep(part, &digest)?;
        let made = Made {
            diff_id,
            descriptor: Descriptor::new(self.compression.media_type(), digest, size),
        };
        if let Some(note) = self.note(recipe) {
            let part = self.part()?;
            serde_json::to_writer(part.as_file(), &made).map_err(|e| failed()(e.into()))?;
            part.persist(&note).map_err(|e| failed()(e.error))?;
        }
        Ok(made)
    }

    /// A file that becomes a blob. It is locked as long as it is open, so that others can tell
    /// whether its process lives.
    pub(crate) fn part(&self) -> Result<tempfile::NamedTempFile, Error> {
        let folder = self.home.join("part");
        let locked = || -> std::io::Result<_> {
            loop {
                let part = tempfile::NamedTempFile::new_in(&folder)?;
                part.as_file().lock()?;
                // Between these two somebody may have taken it for one that was left.
                if part.as_file().metadata()?.nlink() > 0 {
                    return Ok(part);
                }
            }
        };
        locked().map_err(Error::file("write in", folder.clone()))
    }

    /// Keeps a complete file as the blob of this digest.
    pub(crate) fn keep(
        &self,
        part: tempfile::NamedTempFile,
        digest: &Digest,
    ) -> Result<PathBuf, Error> {
        let path = self.path(digest);
        let kept = part.persist(&path);
        kept.map_err(|e| Error::file("keep the layer", &path)(e.error))?;
        Ok(path)
    }

    /// Removes the longest unused bytes beyond a size.
    pub(crate) fn prune(&self, limit_bytes: u64) -> Result<(), Error> {
        let folder = self.home.join("blobs/sha256");
        let failed = |path: &Path| Error::file("clear the layers in", path.to_owned());
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            if let Ok(found) = entry.metadata() {
                let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                blobs.push((used, found.len(), entry.path()));
            }
        }
        blobs.sort();
        let mut size: u64 = blobs.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in blobs {
            if size <= limit_bytes {
                break;
            }
            remove_if_there(&path).map_err(failed(&path))?;
            size -= length;
        }
        Ok(())
    }
}

/// Removes a file that another process may remove too.
fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_left_goes_at_the_next_start_and_what_is_being_written_stays() {
        let home = tempfile::tempdir().unwrap();
        let open = || Memory::open(home.path().to_owned(), Compression::Zstd).unwrap();
        let part = open().part().unwrap();
        let left = home.path().join("part/.tmpLEFT");
        fs::write(&left, "half a layer").unwrap();
        open();
        assert!(!left.exists());
        assert!(part.path().exists());
    }
}
