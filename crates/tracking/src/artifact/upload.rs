//! Storing files: whole or not at all, with a bounded part of them in memory.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, pin_mut};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::{Artifacts, folder, io_kind, key, storage};
use crate::error::Error;
use crate::location::{Location, UPLOADS};

/// How much of an upload is held in memory before it is written into a folder.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// The same for a bucket, which takes 10,000 parts of a file and none below 5 MiB but the last.
const BUCKET_PART_BYTES: usize = 16 * 1024 * 1024;

/// For how long the rest of an upload that cannot be stored is read.
const LISTENING: Duration = Duration::from_secs(60);

impl Artifacts {
    /// Stores a file from a stream, in the place of one that may be there, and tells its size.
    /// Holds one part of it at a time; when the stream fails nothing is changed.
    ///
    /// # Errors
    /// The stream's error as [`Error::Upload`], [`Error::InvalidPath`] when a folder has this
    /// name or a file the name of a parent.
    pub async fn put<S, E>(&self, file: &Location, content: S) -> Result<u64, Error>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = self.check_target(file).await?;
        let staged = self.staged(&target)?;
        let (mut part, full) = match self.bucket {
            Some(_) => (Part::Joined(BytesMut::new()), BUCKET_PART_BYTES),
            None => (Part::Chunks(Vec::new()), PART_BYTES),
        };
        let mut upload = Unfinished(None);
        let mut size_bytes = 0;
        let mut part_bytes = 0;
        pin_mut!(content);
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(|source| Error::Upload(source.into()))?;
            size_bytes += chunk.len() as u64;
            part_bytes += chunk.len();
            part.push(chunk);
            if part_bytes < full {
                continue;
            }
            let payload = part.take();
            part_bytes = 0;
            if let Err(source) = self.put_part(&staged, &mut upload, payload).await {
                // A client that still sends reads no answer.
                let rest = async { while let Some(Ok(_)) = content.next().await {} };
                if tokio::time::timeout(LISTENING, rest).await.is_err() {
                    tracing::debug!("the rest of an upload that failed was not waited for");
                }
                return Err(writing(file, source));
            }
        }
        self.finish(&staged, &target, upload, part.take())
            .await
            .map_err(|source| writing(file, source))?;
        Ok(size_bytes)
    }

    /// Stores a small file.
    pub async fn put_bytes(&self, file: &Location, bytes: Bytes) -> Result<(), Error> {
        let target = self.check_target(file).await?;
        let none = Unfinished(None);
        self.finish(&self.staged(&target)?, &target, none, bytes.into())
            .await
            .map_err(|source| writing(file, source))
    }

    async fn put_part(
        &self,
        staged: &Key,
        upload: &mut Unfinished,
        payload: PutPayload,
    ) -> Result<(), object_store::Error> {
        let upload = match &mut upload.0 {
            Some(upload) => upload,
            none => none.insert(self.store.put_multipart(staged).await?),
        };
        upload.put_part(payload).await
    }

    /// Writes the rest of a file and shows it under its name.
    async fn finish(
        &self,
        staged: &Key,
        target: &Key,
        mut unfinished: Unfinished,
        rest: PutPayload,
    ) -> Result<(), object_store::Error> {
        match &mut unfinished.0 {
            None => {
                self.store.put(staged, rest).await?;
            }
            Some(upload) => {
                if rest.content_length() > 0 {
                    upload.put_part(rest).await?;
                }
                upload.complete().await?;
            }
        }
        unfinished.0 = None;
        let Some(root) = &self.folder else {
            return Ok(());
        };
        let placed = self.place(root, staged, target).await;
        if placed.is_err()
            && let Err(error) = self.store.delete(staged).await
        {
            tracing::warn!(%error, upload = %staged, "an upload that failed could not be removed");
        }
        placed?;
        let name = folder::keep_name(root.to_path_buf(), root.join(target.as_ref()));
        name.await.map_err(keeping)
    }

    /// Shows a file that is written whole under its name. Its content is on the disk then, its
    /// name may not be.
    async fn place(
        &self,
        root: &Path,
        staged: &Key,
        target: &Key,
    ) -> Result<(), object_store::Error> {
        let content = folder::keep_content(root.join(staged.as_ref()));
        content.await.map_err(keeping)?;
        self.store.rename(staged, target).await
    }

    /// Where an upload gathers until it is whole: a bucket does that by itself.
    fn staged(&self, target: &Key) -> Result<Key, Error> {
        Ok(match &self.uploads {
            Some(uploads) => Key::from_iter([UPLOADS, uploads.name(), &crate::id::random_hex()?]),
            None => target.clone(),
        })
    }

    async fn check_target(&self, file: &Location) -> Result<Key, Error> {
        if file.key().is_empty() {
            return Err(Error::InvalidPath {
                path: String::new(),
                reason: "it names no file",
            });
        }
        self.refuse_links(file).await?;
        key(file)
    }
}

/// What came of the next part of a file.
enum Part {
    /// As it came: nothing is copied.
    Chunks(Vec<Bytes>),
    /// In one buffer, which the next part takes over when this one is sent. A chunk keeps all of
    /// what its connection read into, several times its own size: a large part cannot hold many.
    Joined(BytesMut),
}

impl Part {
    fn push(&mut self, chunk: Bytes) {
        match self {
            Part::Chunks(chunks) => chunks.push(chunk),
            Part::Joined(buffer) => buffer.extend_from_slice(&chunk),
        }
    }

    fn take(&mut self) -> PutPayload {
        match self {
            Part::Chunks(chunks) => PutPayload::from_iter(std::mem::take(chunks)),
            Part::Joined(buffer) => buffer.split().freeze().into(),
        }
    }
}

/// An upload that is not yet a file. Dropped, also because its client went away, it is removed.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(mut upload) = self.0.take() else {
            return;
        };
        // Without a runtime the process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "an upload that failed could not be removed");
                }
            });
        }
    }
}

fn keeping(source: std::io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "LocalFileSystem",
        source: source.into(),
    }
}

fn writing(file: &Location, source: object_store::Error) -> Error {
    match io_kind(&source) {
        Some(ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
            Error::InvalidPath {
                path: file.key().to_owned(),
                reason: "a folder has this name, or a file the name of one of its folders",
            }
        }
        _ => storage("writing", file, source),
    }
}
