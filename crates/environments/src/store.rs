//! The folders of the environment store.
//!
//! `environments/KEY` is complete or does not exist: it is built under `cache/uv/building`, on the
//! same file system, and renamed. uv's own cache lies beside, so that one mount holds both, files
//! can be hard links, and a build can write nothing else. A build holds a lock that dies with its process; what nobody holds a lock
//! on is left over and removed when the store is opened.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, Hold};
use crate::error::Error;
use crate::lock::Lock;

/// The description inside an environment.
const DESCRIPTION: &str = ".asgard-environment.json";

/// Paths of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    complete: PathBuf,
    writable: PathBuf,
    resolutions: PathBuf,
    pub(crate) tools: PathBuf,
}

/// What is written into an environment when it is complete.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    python_version: String,
    prefixes: Vec<PathBuf>,
    lock: Lock,
}

/// What a list of requirements meant at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Resolution {
    pub(crate) resolved_at_ms: u64,
    pub(crate) lock: Lock,
}

/// A folder in which an environment is being built; removed when dropped.
#[derive(Debug)]
pub(crate) struct Building {
    root: PathBuf,
    scratch: PathBuf,
    held: PathBuf,
    _lock: File,
}

impl Store {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Error> {
        let store = Self {
            complete: data_dir.join("environments"),
            writable: data_dir.join("cache/uv"),
            resolutions: data_dir.join("cache/resolutions"),
            tools: data_dir.join("tools"),
        };
        for folder in [
            &store.complete,
            &store.resolutions,
            &store.uv_cache(),
            &store.building(),
        ] {
            make(folder)?;
        }
        store.clear_left_over()?;
        Ok(store)
    }

    /// The folder that a build may write: uv's cache and what is being built.
    pub(crate) fn writable(&self) -> &Path {
        &self.writable
    }

    pub(crate) fn uv_cache(&self) -> PathBuf {
        self.writable.join("cache")
    }

    fn building(&self) -> PathBuf {
        self.writable.join("building")
    }

    /// A complete environment, which is kept as long as it is held, and counts as used now.
    pub(crate) fn find(&self, key: &str) -> Option<Environment> {
        if !is_key(key) {
            return None;
        }
        let found = read(&self.complete.join(key), key)?;
        if let Err(error) = found.hold.0.set_modified(SystemTime::now()) {
            tracing::warn!(key, %error, "noting that an environment is used failed");
        }
        Some(found)
    }

    /// A new folder to build `key` in.
    pub(crate) fn begin(&self, key: &str) -> Result<Building, Error> {
        let failed = |path: &Path, source| Error::Store {
            attempt: "begin a build in",
            path: path.to_owned(),
            source,
        };
        let building = self.building();
        let held = tempfile::Builder::new()
            .prefix(&format!("{key}-"))
            .suffix(".lock")
            .tempfile_in(&building)
            .map_err(|e| failed(&building, e))?;
        let (lock, path) = held.keep().map_err(|e| failed(&building, e.error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| failed(&path, e.into()))?;
        let folder = path.with_extension("");
        let building = Building {
            root: folder.join("env"),
            scratch: folder.join("scratch"),
            held: path,
            _lock: lock,
        };
        make(&building.scratch)?;
        Ok(building)
    }

    /// Makes a built environment the complete one of its key.
    pub(crate) fn publish(
        &self,
        building: Building,
        key: &str,
        description: (&str, &[PathBuf], &Lock),
    ) -> Result<Environment, Error> {
        let (python_version, prefixes, lock) = description;
        let description = Description {
            python_version: python_version.to_owned(),
            prefixes: prefixes.to_vec(),
            lock: lock.clone(),
        };
        let place = self.complete.join(key);
        let failed = |source: io::Error| Error::Store {
            attempt: "complete the environment",
            path: place.clone(),
            source,
        };
        let text = serde_json::to_vec(&description).map_err(|e| failed(e.into()))?;
        fs::write(building.root.join(DESCRIPTION), text).map_err(failed)?;
        if self.find(key).is_none() {
            // What lies there unusable, as when its interpreter went, makes way.
            if place.exists() {
                fs::remove_dir_all(&place).map_err(failed)?;
            }
            fs::rename(&building.root, &place).map_err(failed)?;
        }
        drop(building);
        self.find(key)
            .ok_or_else(|| failed(io::Error::other("it cannot be read back")))
    }

    /// What a list meant when it was last resolved; counts as used now.
    pub(crate) fn resolution(&self, input: &str) -> Option<Resolution> {
        let mut file = File::open(self.resolutions.join(format!("{input}.json"))).ok()?;
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::warn!(input, %error, "noting that a resolution is used failed");
        }
        let mut text = Vec::new();
        io::Read::read_to_end(&mut file, &mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Forgets what lists meant until the rest is within a size, that used longest ago first; how
    /// many were forgotten.
    pub(crate) fn forget_resolutions(&self, limit_bytes: u64) -> io::Result<usize> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.resolutions)? {
            let entry = entry?;
            // One may be replaced at this moment.
            if let Ok(found) = entry.metadata() {
                kept.push((found.modified()?, found.blocks() * 512, entry.path()));
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut forgotten = 0;
        for (_, size, path) in kept {
            if bytes <= limit_bytes {
                break;
            }
            remove(&path)?;
            bytes -= size;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    pub(crate) fn remember(&self, input: &str, resolution: &Resolution) -> Result<(), Error> {
        let path = self.resolutions.join(format!("{input}.json"));
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.resolutions)?;
            serde_json::to_writer(&mut file, resolution)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| Error::Store {
            attempt: "write",
            path: path.clone(),
            source,
        })
    }

    /// The folder of complete environments.
    pub(crate) fn complete(&self) -> &Path {
        &self.complete
    }

    /// The keys of the environments that nobody holds and nobody has used since `before`.
    pub(crate) fn unused(&self, before: SystemTime) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.complete)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let used = fs::metadata(self.complete.join(&name).join(DESCRIPTION))
                .and_then(|found| found.modified());
            if is_key(&name) && used.is_ok_and(|used| used < before) {
                keys.push(name);
            }
        }
        Ok(keys)
    }

    /// Removes an environment unless somebody holds it or has used it since `before`.
    pub(crate) fn remove(&self, key: &str, before: SystemTime) -> io::Result<bool> {
        let root = self.complete.join(key);
        let file = match File::open(root.join(DESCRIPTION)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free || file.metadata()?.modified()? >= before {
            return Ok(false);
        }
        self.discard(&root)?;
        Ok(true)
    }

    /// Removes uv's cache. Environments keep what they share with it.
    pub(crate) fn clear_cache(&self) -> io::Result<()> {
        self.discard(&self.uv_cache())?;
        fs::create_dir_all(self.uv_cache())
    }

    /// Removes a folder: from its place at once, from the disk in its time. What a killed server
    /// leaves of it is removed when the store is opened.
    fn discard(&self, folder: &Path) -> io::Result<()> {
        let doomed = tempfile::Builder::new()
            .prefix("discarded-")
            .tempdir_in(self.building())?;
        fs::rename(folder, doomed.path().join("it"))?;
        doomed.close()
    }

    /// Removes builds that no living process holds.
    pub(crate) fn clear_left_over(&self) -> Result<(), Error> {
        let building = self.building();
        let failed = |path: &Path, source| Error::Store {
            attempt: "remove the half-built",
            path: path.to_owned(),
            source,
        };
        let entries = fs::read_dir(&building).map_err(|e| failed(&building, e))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_lock = path.extension().is_some_and(|e| e == "lock");
            let held = if is_lock {
                path.clone()
            } else {
                with_lock_ending(&path)
            };
            let free = match File::open(&held) {
                Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
                Err(_) => true,
            };
            if free {
                remove(&held.with_extension(""))
                    .and_then(|()| remove(&held))
                    .map_err(|e| failed(&path, e))?;
            }
        }
        Ok(())
    }
}

impl Building {
    /// The environment's folder, to be made.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for temporary files.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let folder = self.held.with_extension("");
        if let Err(error) = remove(&folder).and_then(|()| remove(&self.held)) {
            tracing::warn!(folder = %folder.display(), %error, "a build folder stays behind");
        }
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The complete environment in a folder, which is kept as long as it is held.
pub(crate) fn read(root: &Path, key: &str) -> Option<Environment> {
    let mut file = File::open(root.join(DESCRIPTION)).ok()?;
    // Held by others who use it, or by who removes it.
    flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    let mut text = Vec::new();
    io::Read::read_to_end(&mut file, &mut text).ok()?;
    let description: Description = serde_json::from_slice(&text).ok()?;
    let python = root.join("bin/python");
    // The base interpreter may have been removed since, or the environment before it was held.
    python.exists().then(|| Environment {
        key: key.to_owned(),
        python,
        root: root.to_owned(),
        python_version: description.python_version,
        packages: description.lock.packages(),
        lock: description.lock.text,
        prefixes: description.prefixes,
        hold: Hold(Arc::new(file)),
    })
}

/// The name and text of the description of an environment whose interpreter is below `/usr`.
pub(crate) fn described(python_version: &str, lock: &str) -> (&'static str, Vec<u8>) {
    let description = Description {
        python_version: python_version.to_owned(),
        prefixes: Vec::new(),
        lock: Lock {
            text: lock.to_owned(),
        },
    };
    let text = serde_json::to_vec(&description).expect("texts and lists are JSON");
    (DESCRIPTION, text)
}

fn with_lock_ending(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::Store {
        attempt: "make the folder",
        path: folder.to_owned(),
        source,
    })
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
