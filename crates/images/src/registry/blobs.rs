//! Reading, mounting and uploading blobs.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Response, StatusCode, Url};
use tokio_util::io::ReaderStream;

use super::{ANSWER, Errand, FIRST_PAUSE, Registries, TRIES};
use crate::digest::{Digest, Hashed};
use crate::document::Descriptor;
use crate::error::Error;
use crate::memory::Memory;
use crate::reference::Repository;

/// A connection slower than this is taken for dead.
const SLOWEST_BYTES_PER_S: u64 = 64 << 10;

/// What became of a wish to mount a blob.
pub(crate) enum Mounted {
    Done,
    /// It must be uploaded instead; where, when the registry has begun that already.
    No(Option<Url>),
}

impl Registries {
    /// Whether a repository has a blob.
    pub(crate) async fn has(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let errand = Errand::write(repository, format!("look for a layer in {repository}"));
        let url = self.url(repository, &format!("blobs/{digest}"));
        let response = self
            .send(&errand, |client| Ok(client.head(&url).timeout(ANSWER)))
            .await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(errand.unexpected(response).await),
        }
    }

    /// Asks for a blob of another repository of the same registry.
    pub(crate) async fn mount(
        &self,
        to: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mounted, Error> {
        if from.host != to.host {
            return Ok(Mounted::No(None));
        }
        let mut errand = Errand::write(to, format!("mount a layer of {from} in {to}"));
        errand.scope = format!("{} repository:{}:pull", errand.scope, from.path);
        let url = self.url(to, "blobs/uploads/");
        let query = [("mount", digest.as_str()), ("from", &from.path)];
        let sent = self.send(&errand, |client| {
            let request = client.post(&url).query(&query).header(CONTENT_LENGTH, 0);
            Ok(request.timeout(ANSWER))
        });
        let response = match sent.await {
            // No token for both repositories: then there is no mounting.
            Err(Error::Denied { .. }) => return Ok(Mounted::No(None)),
            answered => answered?,
        };
        match response.status() {
            StatusCode::CREATED => Ok(Mounted::Done),
            StatusCode::ACCEPTED => Ok(Mounted::No(Some(location(&errand, &response)?))),
            // The token may be good for this repository alone: then there is no mounting.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Mounted::No(None)),
            _ => Err(errand.unexpected(response).await),
        }
    }

    /// Uploads a file as a blob, in the upload that was begun or a new one.
    pub(crate) async fn upload(
        &self,
        to: &Repository,
        blob: &Descriptor,
        file: &Path,
        begun: Option<Url>,
    ) -> Result<(), Error> {
        let mut at = match begun {
            Some(at) => at,
            None => self.begin(to).await?,
        };
        let (mut offset, mut tried, mut pause) = (0, 0, FIRST_PAUSE);
        loop {
            let error = match self.put_rest(to, blob, file, &at, offset).await {
                Ok(next) => return self.complete(to, blob, next).await,
                Err(error) => error,
            };
            tried += 1;
            let may_pass = matches!(error, Error::Unreachable { .. } | Error::Refused { .. });
            if tried >= TRIES || !may_pass {
                return Err(error);
            }
            tracing::warn!(%error, digest = %blob.digest, "an upload goes on after a fault");
            tokio::time::sleep(pause).await;
            pause *= 2;
            (at, offset) = match self.reached(to, &at).await? {
                Some(reached) => reached,
                None => (self.begin(to).await?, 0),
            };
        }
    }

    async fn begin(&self, to: &Repository) -> Result<Url, Error> {
        let errand = Errand::write(to, format!("begin an upload to {to}"));
        let url = self.url(to, "blobs/uploads/");
        let response = self
            .send(&errand, |client| {
                Ok(client.post(&url).header(CONTENT_LENGTH, 0).timeout(ANSWER))
            })
            .await?;
        match response.status() {
            StatusCode::ACCEPTED => location(&errand, &response),
            _ => Err(errand.unexpected(response).await),
        }
    }

    /// Sends all from `offset` on; where to go on from there.
    async fn put_rest(
        &self,
        to: &Repository,
        blob: &Descriptor,
        file: &Path,
        at: &Url,
        offset: u64,
    ) -> Result<Url, Error> {
        let errand = Errand::write(to, format!("take a layer of {} bytes for {to}", blob.size));
        let errand = errand.once();
        let rest = blob.size.saturating_sub(offset);
        if rest == 0 && offset > 0 {
            return Ok(at.clone());
        }
        let patience = ANSWER + Duration::from_secs(rest / SLOWEST_BYTES_PER_S);
        let response = self
            .send(&errand, |client| {
                let mut open = std::fs::File::open(file).map_err(Error::file("read", file))?;
                let moved = open.seek(SeekFrom::Start(offset));
                moved.map_err(Error::file("read", file))?;
                let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(open), 1 << 18);
                let mut request = client
                    .patch(at.clone())
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, rest)
                    .timeout(patience)
                    .body(Body::wrap_stream(stream));
                if offset > 0 {
                    let range = format!("{offset}-{}", blob.size.saturating_sub(1));
                    request = request.header(CONTENT_RANGE, range);
                }
                Ok(request)
            })
            .await?;
        match response.status() {
            status if status.is_success() => location(&errand, &response),
            _ => Err(errand.unexpected(response).await),
        }
    }

    /// How far a broken upload came; nothing when the registry has forgotten it.
    async fn reached(&self, to: &Repository, at: &Url) -> Result<Option<(Url, u64)>, Error> {
        let errand = Errand::write(to, format!("go on with an upload to {to}"));
        let response = self
            .send(&errand, |client| Ok(client.get(at.clone()).timeout(ANSWER)))
            .await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let range = response.headers().get(RANGE).and_then(|r| r.to_str().ok());
        let last = range.and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
        // `0-0` is said of an upload that has nothing.
        let reached = last.filter(|last| *last > 0).map_or(0, |last| last + 1);
        Ok(Some((location(&errand, &response)?, reached)))
    }

    async fn complete(&self, to: &Repository, blob: &Descriptor, at: Url) -> Result<(), Error> {
        let errand = Errand::write(to, format!("complete an upload to {to}"));
        let mut at = at;
        at.query_pairs_mut()
            .append_pair("digest", blob.digest.as_str());
        let response = self
            .send(&errand, |client| {
                let request = client.put(at.clone()).header(CONTENT_LENGTH, 0);
                Ok(request.timeout(ANSWER + Duration::from_secs(blob.size >> 24)))
            })
            .await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(errand.unexpected(response).await),
        }
    }

    /// Brings a blob to this machine, and checks that it is what it should be.
    pub(crate) async fn fetch(
        &self,
        from: &Repository,
        blob: &Descriptor,
        memory: &Memory,
    ) -> Result<PathBuf, Error> {
        if let Some(path) = memory.find(&blob.digest) {
            return Ok(path);
        }
        let errand = Errand::read(
            from,
            format!("give a layer of {} bytes of {from}", blob.size),
        );
        let url = self.url(from, &format!("blobs/{}", blob.digest));
        let patience = ANSWER + Duration::from_secs(blob.size / SLOWEST_BYTES_PER_S);
        let response = self
            .send(&errand, |client| Ok(client.get(&url).timeout(patience)))
            .await?;
        if !response.status().is_success() {
            return Err(errand.unexpected(response).await);
        }
        let part = memory.part()?;
        let mut out = Hashed::new(part.as_file());
        let mut stream = response.bytes_stream();
        let mut left = blob.size;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|e| Error::Unreachable {
                host: from.host.clone(),
                attempt: errand.attempt.clone(),
                source: e.without_url(),
            })?;
            let length = bytes.len() as u64;
            left = left
                .checked_sub(length)
                .ok_or_else(|| errand.refused("it gives more bytes than the manifest says"))?;
            out.write_all(&bytes).map_err(Error::io("keep a layer"))?;
        }
        let (_, found, _) = out.finish();
        if found != blob.digest {
            return Err(Error::Digest {
                from: from.host.clone(),
                expected: blob.digest.clone(),
                found,
            });
        }
        memory.keep(part, &blob.digest)
    }
}

/// Where an upload goes on: relative to where it was asked for.
fn location(errand: &Errand<'_>, response: &Response) -> Result<Url, Error> {
    let header = response.headers().get(LOCATION);
    let named = header.and_then(|value| value.to_str().ok());
    let mut joined = named.and_then(|named| response.url().join(named).ok());
    // A registry behind a proxy may not know that it is spoken to with TLS.
    if let Some(to) = &mut joined
        && to.host_str() == response.url().host_str()
        && response.url().scheme() == "https"
    {
        // Between these two it cannot fail.
        let _ = to.set_scheme("https");
    }
    joined.ok_or_else(|| errand.refused("it does not say where its upload goes on"))
}
