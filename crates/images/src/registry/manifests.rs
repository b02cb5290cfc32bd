//! Reading and writing manifests.

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::{ANSWER, Errand, Registries};
use crate::digest::Digest;
use crate::document::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};
use crate::error::Error;
use crate::reference::{Reference, Repository};

/// Larger ones are no manifests, says the distribution specification.
const LARGEST: usize = 4 << 20;

/// A manifest or an index as it lies in a registry.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Registries {
    /// The manifest or index of an image.
    pub(crate) async fn manifest(&self, image: &Reference) -> Result<Fetched, Error> {
        let errand = Errand::read(&image.repository, format!("read the image {image}"));
        let url = self.url(&image.repository, &format!("manifests/{}", image.name()));
        let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let response = self
            .send(&errand, |client| {
                Ok(client.get(&url).header(ACCEPT, &accept).timeout(ANSWER))
            })
            .await?;
        if !response.status().is_success() {
            return Err(errand.unexpected(response).await);
        }
        // Not every registry says beforehand how long its answer is.
        let (mut bytes, mut stream) = (Vec::new(), response.bytes_stream());
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| Error::Unreachable {
                host: image.repository.host.clone(),
                attempt: errand.attempt.clone(),
                source: e.without_url(),
            })?;
            bytes.extend_from_slice(&part);
            if bytes.len() > LARGEST {
                return Err(errand.refused("its manifest is larger than manifests are"));
            }
        }
        let digest = Digest::of(&bytes);
        match &image.digest {
            Some(expected) if *expected != digest => Err(Error::Digest {
                from: image.repository.host.clone(),
                expected: expected.clone(),
                found: digest,
            }),
            _ => Ok(Fetched { bytes, digest }),
        }
    }

    /// Writes a manifest under a tag or its digest.
    pub(crate) async fn put_manifest(
        &self,
        to: &Repository,
        name: &str,
        manifest: &[u8],
    ) -> Result<(), Error> {
        let errand = Errand::write(to, format!("take the manifest of {to}:{name}"));
        let url = self.url(to, &format!("manifests/{name}"));
        let response = self
            .send(&errand, |client| {
                let request = client.put(&url).header(CONTENT_TYPE, MANIFEST);
                Ok(request.body(manifest.to_vec()).timeout(ANSWER))
            })
            .await?;
        if !response.status().is_success() {
            return Err(errand.unexpected(response).await);
        }
        Ok(())
    }
}
