//! Proofs that outlive their process: a model that was compared with Python once answers at once
//! when it is loaded again, and its worker is only started for what was not compared.
//!
//! A proof holds for the same files, in the same environment, with the same variables, for the same
//! program of the worker and the same engine. It is kept under the digest of all that, and so is that a
//! model has none.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use environments::Environment;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Native;
use crate::mlmodel::MlModel;
use crate::signature::Signature;
use crate::variables::Variables;
use crate::worker::{Facts, PROGRAM};

/// What is compared with what: another version of these proves anew.
const ENGINE: [&str; 5] = [
    PROGRAM,
    include_str!("mod.rs"),
    include_str!("numbers.rs"),
    include_str!("probe.rs"),
    include_str!("walk.rs"),
];

/// Models with more bytes are not read for a digest: those that this engine answers are smaller.
pub(crate) const MOST_MODEL_BYTES: u64 = 1 << 30;

/// Beyond this many bytes of proofs those go that were used longest ago.
const MOST_KEPT_BYTES: u64 = 1 << 30;

/// No head is longer.
const MOST_HEAD_BYTES: u32 = 1 << 20;

/// What a proof is about: a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject(String);

/// Where proofs are.
#[derive(Debug, Clone)]
pub(crate) struct Proofs {
    folder: PathBuf,
    /// One that another process has handed over.
    handed: Option<PathBuf>,
}

/// What stands before the numbers.
#[derive(Serialize, Deserialize)]
struct Head {
    subject: String,
    facts: Facts,
    missing: bool,
    /// The digest of the numbers.
    numbers: String,
}

impl Subject {
    /// Of a model in an environment, with what its code finds there; `None` for one that Python has
    /// to answer, or that cannot be read.
    pub(crate) async fn of(
        folder: &Path,
        described: &MlModel,
        environment: &Environment,
        variables: &Variables,
    ) -> Option<Self> {
        if !described.may_be_native() {
            return None;
        }
        let folder = folder.to_owned();
        let mut texts: Vec<String> = ENGINE.map(str::to_owned).into();
        texts.push(environment.key.clone());
        texts.extend(
            variables
                .iter()
                .flat_map(|(name, value)| [name.clone(), value.clone()]),
        );
        let digest = tokio::task::spawn_blocking(move || {
            let mut left = MOST_MODEL_BYTES;
            measure(&folder, &mut left)?;
            let mut hash = Sha256::new();
            hash.update(texts.len().to_le_bytes());
            texts
                .iter()
                .for_each(|text| hash.update(Sha256::digest(text)));
            add(&mut hash, &folder)?;
            io::Result::Ok(hex(hash))
        });
        match digest.await.ok()? {
            Ok(digest) => Some(Self(digest)),
            Err(error) => {
                tracing::debug!(%error, "a model has no digest, so nothing is known of it from before");
                None
            }
        }
    }
}

/// Takes the sizes of a folder's files from what is `left`.
fn measure(folder: &Path, left: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            measure(&entry.path(), left)?;
            continue;
        }
        *left = left
            .checked_sub(found.len())
            .ok_or_else(|| io::Error::other("the model is too large"))?;
    }
    Ok(())
}

/// Adds the names and contents of a folder's files, in the order of their names.
fn add(hash: &mut Sha256, folder: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        hash.update(Sha256::digest(entry.file_name().as_encoded_bytes()));
        hash.update([u8::from(kind.is_dir())]);
        if kind.is_dir() {
            add(hash, &entry.path())?;
            hash.update([2]);
            continue;
        }
        if !kind.is_file() {
            return Err(io::Error::other("it is neither a file nor a folder"));
        }
        let mut content = Sha256::new();
        io::copy(&mut fs::File::open(entry.path())?, &mut content)?;
        hash.update(content.finalize());
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Proofs {
    pub(crate) fn new(folder: PathBuf, handed: Option<PathBuf>) -> Self {
        Self { folder, handed }
    }

    /// Those of the server with this data directory.
    pub(crate) fn of_server(data_dir: &Path) -> Self {
        Self::new(data_dir.join("serving/proofs"), None)
    }

    fn place(&self, subject: &Subject) -> PathBuf {
        self.folder.join(&subject.0)
    }

    /// The file of a proof, for another process that shall have it.
    pub(crate) fn file(&self, subject: &Subject) -> Option<PathBuf> {
        Some(self.place(subject)).filter(|place| place.is_file())
    }

    /// Whether it was found out before what can be proven.
    pub(crate) async fn knows(&self, subject: &Subject) -> bool {
        let places = [self.place(subject), self.refuted(subject)];
        let known = move || places.iter().any(|place| place.is_file());
        tokio::task::spawn_blocking(known).await.unwrap_or(false)
    }

    /// Keeps why only Python answers. Without it the comparison is made again before a deployment.
    pub(crate) async fn refute(&self, subject: &Subject, reason: &str) {
        let (folder, place) = (self.folder.clone(), self.refuted(subject));
        let reason = reason.to_owned();
        self.kept(move || {
            fs::create_dir_all(&folder)?;
            fs::write(place, reason)
        })
        .await;
    }

    fn refuted(&self, subject: &Subject) -> PathBuf {
        self.folder.join(format!("{}.python", subject.0))
    }

    async fn kept(&self, keep: impl FnOnce() -> io::Result<()> + Send + 'static) {
        if let Ok(Err(error)) = tokio::task::spawn_blocking(keep).await {
            tracing::warn!(%error, folder = %self.folder.display(), "a proof cannot be kept");
        }
    }

    /// What was proven before.
    pub(crate) async fn find(
        &self,
        subject: &Subject,
        signature: &Signature,
    ) -> Option<(Facts, Native)> {
        let places = [self.handed.clone(), Some(self.place(subject))];
        let (subject, signature) = (subject.clone(), signature.clone());
        let found = tokio::task::spawn_blocking(move || {
            let mut places = places.into_iter().flatten();
            places.find_map(|place| match read(&place, &subject, &signature) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    tracing::warn!(%error, file = %place.display(), "a proof cannot be read; it is made anew");
                    None
                }
            })
        });
        found.await.ok().flatten()
    }

    /// Keeps what has been proven. Without it the next process compares again.
    pub(crate) async fn keep(
        &self,
        subject: &Subject,
        facts: &Facts,
        native: &Native,
        dump: Vec<u8>,
    ) {
        let head = serde_json::to_vec(&Head {
            subject: subject.0.clone(),
            // The same proof has the same bytes: images hold it.
            facts: Facts {
                load_ms: 0.0,
                ..facts.clone()
            },
            missing: native.missing,
            numbers: hex(Sha256::new_with_prefix(&dump)),
        });
        let (folder, place) = (self.folder.clone(), self.place(subject));
        self.kept(move || {
            let head = head?;
            fs::create_dir_all(&folder)?;
            prune(&folder, dump.len() as u64)?;
            let mut part = tempfile::NamedTempFile::new_in(&folder)?;
            part.write_all(&(head.len() as u32).to_le_bytes())?;
            part.write_all(&head)?;
            part.write_all(&dump)?;
            part.as_file().sync_all()?;
            part.persist(&place)?;
            Ok(())
        })
        .await;
    }
}

fn read(
    place: &Path,
    subject: &Subject,
    signature: &Signature,
) -> io::Result<Option<(Facts, Native)>> {
    let mut file = fs::File::open(place)?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MOST_HEAD_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut head = vec![0; length as usize];
    file.read_exact(&mut head)?;
    let head: Head = serde_json::from_slice(&head)?;
    if head.subject != subject.0 {
        return Ok(None);
    }
    let mut dump = Vec::new();
    file.read_to_end(&mut dump)?;
    if hex(Sha256::new_with_prefix(&dump)) != head.numbers {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // A time that cannot be written makes it look used longer ago than it was.
    let _ = file.set_modified(SystemTime::now());
    let native = Native::of(&dump, signature, &head.facts.features, head.missing);
    Ok(native.map(|native| (head.facts, native)))
}

/// Makes room for another proof.
fn prune(folder: &Path, more: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        kept.push((found.modified()?, found.len(), entry.path()));
    }
    kept.sort();
    let mut bytes = more + kept.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    for (_, size, path) in kept {
        if bytes <= MOST_KEPT_BYTES {
            break;
        }
        fs::remove_file(path)?;
        bytes -= size;
    }
    Ok(())
}
