//! Storing files: whole or not at all, with a bounded part of them in memory.

use std::io::ErrorKind;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, pin_mut};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::{Artifacts, io_kind, key, storage};
use crate::error::Error;
use crate::location::{Location, UPLOADS};

/// How much of an upload is held in memory before it is written.
pub(super) const PART_BYTES: usize = 1024 * 1024;

impl Artifacts {
    /// Stores a file from a stream, in the place of one that may be there, and tells its size.
    /// Holds about a megabyte of it at a time; when the stream fails nothing is changed.
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
        let mut upload: Option<Box<dyn MultipartUpload>> = None;
        let mut size_bytes = 0;
        let mut part = Vec::new();
        let mut part_bytes = 0;
        pin_mut!(content);
        while let Some(chunk) = content.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(source) => {
                    abort(upload).await;
                    return Err(Error::Upload(source.into()));
                }
            };
            size_bytes += chunk.len() as u64;
            part_bytes += chunk.len();
            part.push(chunk);
            if part_bytes < PART_BYTES {
                continue;
            }
            let payload = PutPayload::from_iter(std::mem::take(&mut part));
            part_bytes = 0;
            if let Err(source) = self.put_part(&staged, &mut upload, payload).await {
                abort(upload).await;
                return Err(writing(file, source));
            }
        }
        let rest = PutPayload::from_iter(part);
        self.finish(&staged, &target, upload, rest)
            .await
            .map_err(|source| writing(file, source))?;
        Ok(size_bytes)
    }

    /// Stores a small file.
    pub async fn put_bytes(&self, file: &Location, bytes: Bytes) -> Result<(), Error> {
        let target = self.check_target(file).await?;
        self.finish(&self.staged(&target)?, &target, None, bytes.into())
            .await
            .map_err(|source| writing(file, source))
    }

    async fn put_part(
        &self,
        staged: &Key,
        upload: &mut Option<Box<dyn MultipartUpload>>,
        payload: PutPayload,
    ) -> Result<(), object_store::Error> {
        let upload = match upload {
            Some(upload) => upload,
            None => upload.insert(self.store.put_multipart(staged).await?),
        };
        upload.put_part(payload).await
    }

    /// Writes the rest of a file and shows it under its name.
    async fn finish(
        &self,
        staged: &Key,
        target: &Key,
        upload: Option<Box<dyn MultipartUpload>>,
        rest: PutPayload,
    ) -> Result<(), object_store::Error> {
        match upload {
            None => {
                self.store.put(staged, rest).await?;
            }
            Some(mut upload) => {
                let written = match rest.content_length() {
                    0 => Ok(()),
                    _ => upload.put_part(rest).await,
                };
                if let Err(error) = written {
                    abort(Some(upload)).await;
                    return Err(error);
                }
                upload.complete().await?;
            }
        }
        if staged == target {
            return Ok(());
        }
        let renamed = self.store.rename(staged, target).await;
        if renamed.is_err()
            && let Err(error) = self.store.delete(staged).await
        {
            tracing::warn!(%error, upload = %staged, "an upload that failed could not be removed");
        }
        renamed
    }

    /// Where an upload gathers until it is whole: a bucket does that by itself.
    fn staged(&self, target: &Key) -> Result<Key, Error> {
        Ok(match self.folder {
            Some(_) => Key::from_iter([UPLOADS, &crate::id::random_hex()?]),
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

async fn abort(upload: Option<Box<dyn MultipartUpload>>) {
    if let Some(mut upload) = upload
        && let Err(error) = upload.abort().await
    {
        tracing::warn!(%error, "an upload that failed could not be removed");
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
