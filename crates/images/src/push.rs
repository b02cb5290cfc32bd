//! Bringing an image into a registry.

use crate::Images;
use crate::base::Place;
use crate::error::Error;
use crate::image::{Image, Progress, Source, megabytes};
use crate::reference::{Reference, Repository};
use crate::registry::Mounted;

/// Where an image went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// `HOST/PATH@sha256:…`: this image and no other.
    pub reference: String,
    /// The tag that it also has.
    pub tag: String,
    /// The bytes that were sent.
    pub sent_bytes: u64,
}

impl Images {
    /// Pushes what the registry does not have yet, the manifest last.
    ///
    /// # Errors
    /// When the registry does not answer or refuses.
    pub async fn push(
        &self,
        image: &Image,
        to: &Reference,
        progress: Progress<'_>,
    ) -> Result<Pushed, Error> {
        let repository = &to.repository;
        self.registries.prepare(repository).await?;
        let mut sent_bytes = 0;
        for at in 0..image.layers.len() {
            sent_bytes += self.push_layer(image, at, repository, progress).await?;
        }
        let config = &image.config_descriptor;
        if !self.registries.has(repository, &config.digest).await? {
            let part = self.memory.part()?;
            std::fs::write(&part, &image.config).map_err(Error::file("write", part.path()))?;
            let upload = self
                .registries
                .upload(repository, config, part.path(), None);
            upload.await?;
            sent_bytes += config.size;
        }
        let tag = to.tag.clone().unwrap_or_else(|| "latest".to_owned());
        let put = self
            .registries
            .put_manifest(repository, &tag, &image.manifest);
        put.await?;
        progress(format!(
            "✓ pushed {repository}:{tag}, {} sent",
            megabytes(sent_bytes)
        ));
        Ok(Pushed {
            reference: repository.at(&image.digest),
            tag,
            sent_bytes,
        })
    }

    /// Has a layer in the registry; the bytes that were sent for it.
    async fn push_layer(
        &self,
        image: &Image,
        at: usize,
        to: &Repository,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let layer = &image.layers[at];
        let blob = &layer.descriptor;
        if self.registries.has(to, &blob.digest).await? {
            return Ok(0);
        }
        let (what, begun) = match &layer.source {
            Source::Made(made) => (made.0.name(), None),
            Source::Base(Place::Layout(_)) => ("base", None),
            Source::Base(Place::Registry(from)) => {
                match self.registries.mount(to, &blob.digest, from).await? {
                    Mounted::Done => {
                        let size = megabytes(blob.size);
                        progress(format!("✓ layer of the base, {size}, mounted"));
                        return Ok(0);
                    }
                    Mounted::No(begun) => ("base", begun),
                }
            }
        };
        let file = self.layer_file(image, at).await?;
        self.registries.upload(to, blob, &file, begun).await?;
        progress(format!(
            "✓ layer of the {what}, {}, sent",
            megabytes(blob.size)
        ));
        Ok(blob.size)
    }
}
