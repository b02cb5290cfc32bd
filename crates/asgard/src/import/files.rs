//! Copying the artifacts of another server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio_util::io::ReaderStream;
use tracking::{Artifacts, Location};

use super::place::{self, From};
use super::report::{Kind, Report};

/// How much of a file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// What the other server served artifacts from.
pub(crate) enum Served {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket, or the part of one below a prefix.
    Bucket(Artifacts),
}

/// Where the files of one run, logged model or trace are.
enum Place {
    Folder(PathBuf),
    Bucket(Artifacts, Location),
}

/// Copies folders into the artifact store, file by file; files that are here already, with the
/// same size, stay.
pub(super) struct Copier<'a> {
    pub(super) to: &'a Artifacts,
    pub(super) served: Option<&'a Served>,
    pub(super) dry_run: bool,
    pub(super) files: Kind,
    pub(super) bytes: u64,
}

impl Copier<'_> {
    /// Copies the artifacts of the run, logged model or trace with this id.
    pub(super) async fn copy(
        &mut self,
        from: &From,
        to: &str,
        id: &str,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let Some(place) = self.find(from, id, report) else {
            return Ok(());
        };
        let target = Location::parse_uri(to)?;
        match place {
            Place::Folder(folder) => self.copy_folder(&folder, &target, report).await,
            Place::Bucket(bucket, from) => self.copy_objects(&bucket, &from, &target).await,
        }
    }

    async fn copy_folder(
        &mut self,
        folder: &Path,
        target: &Location,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let place = folder.join(&below);
            let mut entries = match tokio::fs::read_dir(&place).await {
                Ok(entries) => entries,
                // MLflow makes a folder with the first file that is put into it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let why = format!("the folder {} cannot be read: {error}", place.display());
                    report.leave("artifact folders", 1, why);
                    continue;
                }
            };
            while let Some(entry) = entries.next_entry().await? {
                let path = below.join(entry.file_name());
                let kind = entry.file_type().await?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    self.copy_file(folder, &path, target, report).await?;
                } else {
                    self.files.found += 1;
                    self.leave("they are links or devices, which are not followed", report);
                }
            }
        }
        Ok(())
    }

    /// Copies what a bucket has below a place.
    async fn copy_objects(
        &mut self,
        bucket: &Artifacts,
        from: &Location,
        target: &Location,
    ) -> anyhow::Result<()> {
        for entry in bucket.list_all(from).await? {
            self.files.found += 1;
            let (source, place) = (from.join(&entry.path)?, target.join(&entry.path)?);
            let size_bytes = entry.size_bytes.unwrap_or_default();
            if self.dry_run {
                self.bytes += size_bytes;
            } else if !self.is_here(&place, size_bytes).await? {
                let content = bucket.get(&source).await?.stream;
                self.bytes += self.to.put(&place, content).await?;
                self.files.new += 1;
            }
        }
        Ok(())
    }

    /// Whether a file of this size is there already; then it is counted.
    async fn is_here(&mut self, place: &Location, size_bytes: u64) -> anyhow::Result<bool> {
        match self.to.get(place).await {
            Ok(known) if known.size_bytes == size_bytes => {
                self.files.here += 1;
                Ok(true)
            }
            Ok(_) | Err(tracking::Error::ArtifactNotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the files are, if that can be read from here.
    fn find(&self, from: &From, id: &str, report: &mut Report) -> Option<Place> {
        match (from, self.served) {
            (From::Nowhere, _) => None,
            (From::Server(place), Some(Served::Folder(folder))) => {
                Some(Place::Folder(folder.join(place.key())))
            }
            (From::Server(place), Some(Served::Bucket(bucket))) => {
                Some(Place::Bucket(bucket.clone(), place.clone()))
            }
            (From::Server(_), None) => {
                let why = "they are behind the other server: name the folder or bucket of its --artifacts-destination by --artifacts";
                report.leave("artifact folders", 1, why);
                None
            }
            (From::Disk(path), _) if !place::is_folder_of(path, id) => {
                let why = "their path is not one that MLflow gives to a run's, model's or trace's artifacts";
                report.leave("artifact folders", 1, why);
                None
            }
            (From::Disk(path), _) if path.is_dir() => Some(Place::Folder(path.clone())),
            // The store came from another machine: its folder may have come along.
            (From::Disk(path), Some(Served::Folder(folder))) => {
                let parts: Vec<_> = path.iter().skip(1).collect();
                let tails =
                    (0..parts.len()).map(|n| folder.join(parts[n..].iter().collect::<PathBuf>()));
                let mut known = tails.filter(|tail| place::is_folder_of(tail, id));
                known.find(|tail| tail.is_dir()).map(Place::Folder)
            }
            (From::Disk(_), _) => None,
        }
    }

    async fn copy_file(
        &mut self,
        folder: &Path,
        path: &Path,
        target: &Location,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        self.files.found += 1;
        let Some(Ok(place)) = path.to_str().map(|path| target.join(path)) else {
            self.leave(
                "their names hold characters that asgard keeps out of paths",
                report,
            );
            return Ok(());
        };
        let source = folder.join(path);
        let file = tokio::fs::File::open(&source).await;
        let file = file.with_context(|| format!("cannot read {}", source.display()))?;
        let size_bytes = file.metadata().await?.len();
        if self.dry_run {
            self.bytes += size_bytes;
            return Ok(());
        }
        if self.is_here(&place, size_bytes).await? {
            return Ok(());
        }
        let content = ReaderStream::with_capacity(file, READ_BYTES);
        self.bytes += self.to.put(&place, content).await?;
        self.files.new += 1;
        Ok(())
    }

    fn leave(&mut self, why: &str, report: &mut Report) {
        self.files.left += 1;
        report.leave("artifact files", 1, why);
    }
}
