//! The files of runs and logged models, in a local folder or an object store.
//!
//! All access goes through `object_store`; only what a folder can do and a bucket cannot (reading
//! in place, refusing symbolic links, removing a whole folder) looks at the file system.
//! A file appears whole or not at all: uploads into a folder gather under `.uploads` and are
//! renamed into place; uploads into a bucket appear when their last part is there.

pub(crate) mod bucket;
mod folder;
#[cfg(test)]
mod tests;
mod upload;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::config::ArtifactsConfig;
use crate::error::{Error, causes};
use crate::location::{Location, UPLOADS};
use bucket::Bucket;
use folder::Uploads;

/// How much of a download is read at once.
const READ_BYTES: usize = 256 * 1024;

/// The artifact store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
    /// The folder, when the store is one; without symbolic links in its path.
    folder: Option<Arc<Path>>,
    /// Where uploads into the folder gather.
    uploads: Option<Arc<Uploads>>,
    /// The bucket, when the store is one.
    bucket: Option<Arc<Bucket>>,
}

/// A file or folder in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactEntry {
    /// The path relative to the listed folder.
    pub path: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// The size of a file.
    pub size_bytes: Option<u64>,
    /// What the storage says of a file's content, and changes with it: an ETag (RFC 9110).
    pub e_tag: Option<String>,
}

/// A file that is being read.
pub struct ArtifactFile {
    /// The size of the whole file.
    pub size_bytes: u64,
    /// The part of it that `stream` gives.
    pub range: Range<u64>,
    /// The content.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

impl Artifacts {
    /// Opens the store that the configuration names, by default the folder `artifacts` in the
    /// data directory, and makes the folder if it is missing.
    ///
    /// # Errors
    /// [`Error::ArtifactStore`] when the folder cannot be made or the URL is of a kind that this
    /// version does not speak.
    pub fn open(config: &ArtifactsConfig, data_dir: &Path) -> Result<Self, Error> {
        let url = config.url.as_deref().unwrap_or_default();
        let folder = config.folder(data_dir);
        let opened = match &folder {
            Some(folder) => Self::open_folder(folder),
            None if url.starts_with("s3://") => Bucket::open(config, url).map(Self::in_bucket),
            None => Err("it is neither a folder nor s3://BUCKET/PREFIX".into()),
        };
        opened.map_err(|source| Error::ArtifactStore {
            place: folder.map_or_else(|| url.to_owned(), |folder| folder.display().to_string()),
            source,
        })
    }

    fn in_bucket((store, bucket): (Arc<dyn ObjectStore>, Bucket)) -> Self {
        Self {
            store,
            folder: None,
            uploads: None,
            bucket: Some(Arc::new(bucket)),
        }
    }

    /// The store that an external MLflow server keeps.
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            folder: None,
            uploads: None,
            bucket: None,
        }
    }

    fn open_folder(
        folder: &Path,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync + 'static>> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let uploads = Uploads::open(&folder.join(UPLOADS))?;
        let store = LocalFileSystem::new_with_prefix(&folder)?.with_automatic_cleanup(true);
        Ok(Self {
            store: Arc::new(store),
            folder: Some(folder.into()),
            uploads: Some(Arc::new(uploads)),
            bucket: None,
        })
    }

    /// Where a location is on this machine's disk, when the store is a folder. Nothing may be
    /// there.
    pub fn local_dir(&self, location: &Location) -> Option<PathBuf> {
        let folder = self.folder.as_deref()?;
        Some(folder.join(location.key()))
    }

    /// Lists one level of a folder, by name. A file, or nothing, has no entries.
    pub async fn list(&self, location: &Location) -> Result<Vec<ArtifactEntry>, Error> {
        let prefix = key(location)?;
        if self.refuse_links(location).await.is_err() {
            return Ok(Vec::new());
        }
        let listed = match self.store.list_with_delimiter(Some(&prefix)).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(source) if io_kind(&source) == Some(std::io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(source) => return Err(storage("listing", location, source)),
        };
        let folders = listed
            .common_prefixes
            .iter()
            .filter_map(|folder| entry(folder, None, None));
        let files = listed
            .objects
            .iter()
            .filter_map(|file| entry(&file.location, Some(file.size), file.e_tag.clone()));
        let mut entries: Vec<_> = folders.chain(files).collect();
        if location.key().is_empty() {
            entries.retain(|e| e.path != UPLOADS);
        }
        if let Some(folder) = self.local_dir(location) {
            let kept = folder::without_links(folder, entries).await;
            entries = kept.map_err(|source| Error::Storage {
                attempt: "listing",
                path: location.key().to_owned(),
                source: source.into(),
            })?;
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Lists all files below a folder, by path.
    pub async fn list_all(&self, location: &Location) -> Result<Vec<ArtifactEntry>, Error> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for mut entry in self.list(&location.join(&folder)?).await? {
                if !folder.is_empty() {
                    entry.path = format!("{folder}/{}", entry.path);
                }
                if entry.is_dir {
                    folders.push(entry.path);
                } else {
                    files.push(entry);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::ArtifactNotFound`] when there is no such file.
    pub async fn get(&self, file: &Location) -> Result<ArtifactFile, Error> {
        self.get_range(file, None).await
    }

    /// Opens a part of a file for reading.
    ///
    /// # Errors
    /// [`Error::ArtifactNotFound`] when there is no such file, [`Error::ArtifactRange`] when the
    /// part is not in it.
    pub(crate) async fn get_range(
        &self,
        file: &Location,
        range: Option<GetRange>,
    ) -> Result<ArtifactFile, Error> {
        let path = key(file)?;
        if file.key().is_empty() {
            return Err(not_found(file));
        }
        self.refuse_links(file).await?;
        if let Some(range) = &range {
            // The store's own refusal of a range does not say which size would have fitted.
            let size_bytes = self.size(file).await?;
            let part = range.as_range(size_bytes);
            if !part.is_ok_and(|part| part.start < part.end) {
                return Err(Error::ArtifactRange { size_bytes });
            }
        }
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&path, options).await;
        let got = got.map_err(|e| reading(file, e))?;
        Ok(ArtifactFile {
            size_bytes: got.meta.size,
            range: got.range.clone(),
            stream: stream(got, file).await?,
        })
    }

    /// How large a file is.
    ///
    /// # Errors
    /// [`Error::ArtifactNotFound`] when there is no such file.
    pub(crate) async fn size(&self, file: &Location) -> Result<u64, Error> {
        self.refuse_links(file).await?;
        let meta = self.store.head(&key(file)?).await;
        Ok(meta.map_err(|e| reading(file, e))?.size)
    }

    /// Reads a whole file that is not larger than `limit_bytes`.
    ///
    /// # Errors
    /// [`Error::ArtifactNotFound`], or [`Error::ArtifactTooLarge`].
    pub async fn read(&self, file: &Location, limit_bytes: u64) -> Result<Bytes, Error> {
        let mut content = self.get(file).await?;
        if content.size_bytes > limit_bytes {
            return Err(Error::ArtifactTooLarge {
                path: file.key().to_owned(),
                limit_bytes,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(content.size_bytes).unwrap_or_default());
        while let Some(chunk) = content.stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Removes a file, or a folder with all that is in it. Nothing there is fine.
    pub async fn delete(&self, location: &Location) -> Result<(), Error> {
        if location.key().is_empty() {
            return Err(Error::InvalidPath {
                path: String::new(),
                reason: "the whole store cannot be deleted",
            });
        }
        if let Some(place) = self.local_dir(location) {
            self.refuse_links(location).await?;
            return folder::remove(&place)
                .await
                .map_err(|e| removing(location, e));
        }
        let below = self.list_all(location).await?;
        let mut doomed = Vec::with_capacity(below.len().max(1));
        for file in &below {
            doomed.push(Ok(key(&location.join(&file.path)?)?));
        }
        if below.is_empty() {
            doomed.push(Ok(key(location)?));
        }
        let doomed = futures_util::stream::iter(doomed).boxed();
        let mut removed = self.store.delete_stream(doomed);
        while let Some(outcome) = removed.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(storage("removing", location, source)),
            }
        }
        Ok(())
    }

    /// Removes a folder with all that is in it, and the folders around it that are then empty.
    pub(crate) async fn remove_folder(&self, location: &Location) -> Result<(), Error> {
        self.delete(location).await?;
        if let (Some(root), Some(place)) = (self.folder.as_deref(), self.local_dir(location)) {
            folder::prune(root, &place).await;
        }
        Ok(())
    }

    /// Copies all files below a folder into a folder on this machine's disk.
    pub async fn download(&self, location: &Location, into: &Path) -> Result<(), Error> {
        for entry in self.list_all(location).await? {
            let file = location.join(&entry.path)?;
            let mut content = self.get(&file).await?.stream;
            let place = into.join(&entry.path);
            if let Some(parent) = place.parent() {
                let made = tokio::fs::create_dir_all(parent).await;
                made.map_err(|e| download(&file, e))?;
            }
            let target = tokio::fs::File::create(&place).await;
            let mut target = target.map_err(|e| download(&file, e))?;
            while let Some(chunk) = content.try_next().await? {
                let written = tokio::io::AsyncWriteExt::write_all(&mut target, &chunk).await;
                written.map_err(|e| download(&file, e))?;
            }
            let flushed = tokio::io::AsyncWriteExt::flush(&mut target).await;
            flushed.map_err(|e| download(&file, e))?;
        }
        Ok(())
    }

    /// Writes and removes a small file.
    ///
    /// # Errors
    /// [`Error::Storage`] with the store's reason.
    pub async fn check_writable(&self) -> Result<(), Error> {
        let path = Key::from_iter([UPLOADS, "check"]);
        let place = Location::root();
        let put = self.store.put(&path, PutPayload::from_static(b"ok")).await;
        put.map_err(|e| storage("writing to", &place, e))?;
        match self.store.delete(&path).await {
            // Two checks at once remove one file.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(storage("writing to", &place, source)),
        }
    }

    /// In a folder, refuses a place that is reached over a symbolic link.
    async fn refuse_links(&self, location: &Location) -> Result<(), Error> {
        let Some(root) = self.folder.clone() else {
            return Ok(());
        };
        let names = location.key().to_owned();
        let linked = tokio::task::spawn_blocking(move || folder::has_link(&root, &names)).await;
        match linked {
            Ok(false) => Ok(()),
            Ok(true) | Err(_) => Err(not_found(location)),
        }
    }
}

/// The content in pieces that are worth a system call each; the store's own stream of a local
/// file reads 8 KiB at a time.
async fn stream(
    got: GetResult,
    file: &Location,
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
    let place = file.clone();
    let range = got.range.clone();
    match got.payload {
        GetResultPayload::File(open, _) => {
            let mut open = tokio::fs::File::from_std(open);
            if range.start > 0 {
                let sought = open.seek(std::io::SeekFrom::Start(range.start)).await;
                sought.map_err(|e| download(file, e))?;
            }
            let part = open.take(range.end - range.start);
            Ok(ReaderStream::with_capacity(part, READ_BYTES)
                .map_err(move |e| download(&place, e))
                .boxed())
        }
        GetResultPayload::Stream(stream) => Ok(stream.map_err(move |e| reading(&place, e)).boxed()),
    }
}

fn entry(path: &Key, size_bytes: Option<u64>, e_tag: Option<String>) -> Option<ArtifactEntry> {
    Some(ArtifactEntry {
        path: path.filename()?.to_owned(),
        is_dir: size_bytes.is_none(),
        size_bytes,
        e_tag,
    })
}

fn key(location: &Location) -> Result<Key, Error> {
    Key::parse(location.key()).map_err(|_| Error::InvalidPath {
        path: location.key().to_owned(),
        reason: "the artifact store cannot hold this name",
    })
}

fn not_found(file: &Location) -> Error {
    Error::ArtifactNotFound {
        path: file.key().to_owned(),
    }
}

fn reading(file: &Location, source: object_store::Error) -> Error {
    match source {
        object_store::Error::NotFound { .. } => not_found(file),
        source if io_kind(&source) == Some(std::io::ErrorKind::NotADirectory) => not_found(file),
        source => storage("reading", file, source),
    }
}

fn removing(location: &Location, source: std::io::Error) -> Error {
    Error::Storage {
        attempt: "removing",
        path: location.key().to_owned(),
        source: source.into(),
    }
}

fn download(file: &Location, source: std::io::Error) -> Error {
    Error::Storage {
        attempt: "reading",
        path: file.key().to_owned(),
        source: source.into(),
    }
}

fn storage(attempt: &'static str, location: &Location, source: object_store::Error) -> Error {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};
    let of_bucket = match &source {
        Generic { store, .. } => *store == "S3",
        // A folder's refusal has the operating system's as its cause.
        PermissionDenied { .. } | Unauthenticated { .. } => io_kind(&source).is_none(),
        _ => false,
    };
    let path = location.key().to_owned();
    let source: Box<dyn std::error::Error + Send + Sync> = match source {
        // What an external server did says more than which file it was about.
        Generic { store, source } => match source.downcast::<Error>() {
            Ok(external) => return *external,
            Err(source) => Generic { store, source }.into(),
        },
        source => source.into(),
    };
    if of_bucket {
        Error::Bucket {
            attempt,
            path,
            source,
        }
    } else {
        Error::Storage {
            attempt,
            path,
            source,
        }
    }
}

/// The operating system's reason somewhere below a store's error.
pub(crate) fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    causes(error).find_map(|e| Some(e.downcast_ref::<std::io::Error>()?.kind()))
}
