//! What a bucket can do and a folder cannot: clients move files to and from it themselves, by
//! URLs that this server signs.

mod open;

use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use rusty_s3::{Credentials, S3Action};

use super::{Artifacts, key, not_found, storage};
use crate::config::PresignedUrls;
use crate::error::{Error, causes};
use crate::location::Location;

/// How many parts S3 takes of one file.
pub(crate) const MAX_PARTS: u16 = 10_000;

/// The longest that S3 lets a signed URL live.
pub(crate) const MAX_URL_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A bucket, or the part of one below a prefix.
#[derive(Debug)]
pub(super) struct Bucket {
    s3: AmazonS3,
    prefix: Key,
    /// The bucket at the address by which clients reach it.
    public: rusty_s3::Bucket,
    presigned_urls: PresignedUrls,
    url_life: Duration,
}

/// An upload in parts that a client makes by itself.
#[derive(Debug)]
pub(crate) struct Multipart {
    pub(crate) upload_id: String,
    /// Where to PUT each part, the first one first.
    pub(crate) part_urls: Vec<String>,
}

impl Artifacts {
    /// Whether clients are told to move files by signed URLs without being asked to.
    pub(crate) fn advertises_signed_urls(&self) -> bool {
        let bucket = self.bucket.as_deref();
        bucket.is_some_and(|b| b.presigned_urls == PresignedUrls::Advertised)
    }

    /// For how long a signed URL works when its caller does not say.
    pub(crate) fn url_life(&self) -> Duration {
        self.bucket
            .as_deref()
            .map_or(Duration::ZERO, |b| b.url_life)
    }

    /// A URL that reads a file, and the file's size.
    ///
    /// # Errors
    /// [`Error::ArtifactNotFound`]; [`Error::NotImplemented`] when there is no bucket.
    pub(crate) async fn sign_download(
        &self,
        file: &Location,
        life: Duration,
    ) -> Result<(String, u64), Error> {
        let bucket = self.signing("Presigned URLs are not supported")?;
        let size_bytes = self.size(file).await?;
        let name = bucket.key(file)?;
        let credentials = bucket.credentials(file).await?;
        let mut get = bucket.public.get_object(Some(&credentials), name.as_ref());
        // As this server's own answers: a file is never shown as a page.
        get.query_mut()
            .insert("response-content-disposition", "attachment");
        Ok((get.sign(life).into(), size_bytes))
    }

    /// A URL that writes a file in one request.
    ///
    /// # Errors
    /// [`Error::NotImplemented`] when there is no bucket.
    pub(crate) async fn sign_upload(
        &self,
        file: &Location,
        life: Duration,
    ) -> Result<String, Error> {
        let bucket = self.signing("Presigned URLs are not supported")?;
        let name = bucket.key(file)?;
        let credentials = bucket.credentials(file).await?;
        let put = bucket.public.put_object(Some(&credentials), name.as_ref());
        Ok(put.sign(life).into())
    }

    /// Begins an upload in parts. The file appears when it is completed.
    ///
    /// # Errors
    /// [`Error::NotImplemented`] when there is no bucket.
    pub(crate) async fn create_multipart(
        &self,
        file: &Location,
        parts: u16,
    ) -> Result<Multipart, Error> {
        let bucket = self.multipart()?;
        let name = bucket.key(file)?;
        let credentials = bucket.credentials(file).await?;
        let upload_id = bucket.s3.create_multipart(&name).await;
        let upload_id = upload_id.map_err(|e| storage("beginning the upload of", file, e))?;
        let sign = |part| {
            let name = name.as_ref();
            let put = bucket
                .public
                .upload_part(Some(&credentials), name, part, &upload_id);
            String::from(put.sign(bucket.url_life))
        };
        Ok(Multipart {
            part_urls: (1..=parts).map(sign).collect(),
            upload_id,
        })
    }

    /// Makes a file of the parts with these entity tags, the first one first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such upload of this file, [`Error::Invalid`] when the
    /// bucket refuses the parts.
    pub(crate) async fn complete_multipart(
        &self,
        file: &Location,
        upload_id: &str,
        etags: Vec<String>,
    ) -> Result<(), Error> {
        let bucket = self.multipart()?;
        let parts = etags.into_iter().map(|content_id| PartId { content_id });
        let done = bucket
            .s3
            .complete_multipart(&bucket.key(file)?, &upload_id.to_owned(), parts.collect())
            .await;
        done.map(|_| ())
            .map_err(|e| of_upload("completing the upload of", file, upload_id, e))
    }

    /// Forgets an upload in parts, and the parts that have come.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such upload of this file.
    pub(crate) async fn abort_multipart(
        &self,
        file: &Location,
        upload_id: &str,
    ) -> Result<(), Error> {
        let bucket = self.multipart()?;
        let aborted = bucket
            .s3
            .abort_multipart(&bucket.key(file)?, &upload_id.to_owned())
            .await;
        aborted.map_err(|e| of_upload("aborting the upload of", file, upload_id, e))
    }

    fn multipart(&self) -> Result<&Bucket, Error> {
        // Clients of 2.x know this message by its beginning, and send the file in one request.
        self.signing("Multipart upload is not supported")
    }

    fn signing(&self, refusal: &str) -> Result<&Bucket, Error> {
        let bucket = self.bucket.as_deref();
        bucket
            .filter(|b| b.presigned_urls != PresignedUrls::Off)
            .ok_or_else(|| {
                Error::NotImplemented(format!("{refusal} for the current artifact repository"))
            })
    }
}

impl Bucket {
    /// The file's whole key, in the bucket.
    fn key(&self, file: &Location) -> Result<Key, Error> {
        if file.key().is_empty() {
            return Err(not_found(file));
        }
        let below = key(file)?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }

    async fn credentials(&self, file: &Location) -> Result<Credentials, Error> {
        let found = self.s3.credentials().get_credential().await;
        let found = found.map_err(|e| storage("signing a URL of", file, e))?;
        let (key, secret) = (found.key_id.as_str(), found.secret_key.as_str());
        Ok(match &found.token {
            Some(token) => Credentials::new_with_token(key, secret, token.as_str()),
            None => Credentials::new(key, secret),
        })
    }
}

fn of_upload(
    attempt: &'static str,
    file: &Location,
    upload_id: &str,
    source: object_store::Error,
) -> Error {
    let of = || format!("upload {upload_id:?} of {:?}", file.key());
    if matches!(source, object_store::Error::NotFound { .. }) {
        return Error::NotFound(format!(
            "there is no {}: it has been completed or aborted, or is of another file",
            of()
        ));
    }
    // The store's client tells a refusal from a failure in its text only.
    let refused = causes(&source).any(|e| e.to_string().contains("code: 4"));
    if refused {
        return Error::Invalid(format!(
            "the bucket refuses the {}: every part must have been sent to its URL and given with its ETag, and all but the last must hold 5 MiB or more",
            of()
        ));
    }
    storage(attempt, file, source)
}
