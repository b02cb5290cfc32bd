//! The image that the layers are put on: one of a registry, or of a folder with an OCI layout.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::document::{Descriptor, ImageConfig, Index, Manifest, Platform};
use crate::error::Error;
use crate::memory::Memory;
use crate::reference::{Reference, Repository};
use crate::registry::Registries;

/// Indexes of indexes go no deeper than this.
const DEPTH: usize = 3;

/// An image to build on.
pub(crate) struct Base {
    /// What it was called, and the digest of its manifest.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) place: Place,
}

/// Where the blobs of a base image are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Layout(PathBuf),
    Registry(Repository),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(folder) => write!(f, "dir:{}", folder.display()),
            Self::Registry(repository) => repository.fmt(f),
        }
    }
}

impl Place {
    /// The bytes of a blob on this machine.
    pub(crate) async fn fetch(
        &self,
        blob: &Descriptor,
        registries: &Registries,
        memory: &Memory,
    ) -> Result<PathBuf, Error> {
        match self {
            Self::Layout(folder) => {
                let path = blob_path(folder, &blob.digest);
                match path.is_file() {
                    true => Ok(path),
                    false => Err(not_whole(&self.to_string(), &blob.digest)),
                }
            }
            Self::Registry(repository) => registries.fetch(repository, blob, memory).await,
        }
    }
}

impl Base {
    /// Reads what is known of a base image; its layers stay where they are.
    ///
    /// # Errors
    /// When it is not there, or not for this platform.
    pub(crate) async fn read(
        name: &str,
        registries: &Registries,
        memory: &Memory,
    ) -> Result<Self, Error> {
        let source = Source {
            name,
            registries,
            memory,
        };
        match name.strip_prefix("dir:") {
            Some(folder) => source.of_layout(Path::new(folder)).await,
            None => source.of_registry(&Reference::parse(name)?).await,
        }
    }
}

struct Source<'a> {
    name: &'a str,
    registries: &'a Registries,
    memory: &'a Memory,
}

impl Source<'_> {
    fn refused(&self, reason: impl Into<String>, help: impl Into<String>) -> Error {
        Error::Base {
            base: self.name.to_owned(),
            reason: reason.into(),
            help: help.into(),
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|e| {
            let reason = format!("has {what} that cannot be read: {e}");
            self.refused(reason, "name an OCI or Docker image (schema 2)")
        })
    }

    async fn of_layout(&self, folder: &Path) -> Result<Base, Error> {
        let bytes = std::fs::read(folder.join("index.json")).map_err(|e| {
            let reason = format!("is no folder with an OCI layout: index.json: {e}");
            self.refused(
                reason,
                "make one with 'skopeo copy docker://IMAGE oci:FOLDER:TAG' or 'asgard image build'",
            )
        })?;
        let place = Place::Layout(folder.to_owned());
        let digest = Digest::of(&bytes);
        self.of(bytes, digest, place).await
    }

    async fn of_registry(&self, reference: &Reference) -> Result<Base, Error> {
        let fetched = self.registries.manifest(reference).await?;
        let place = Place::Registry(reference.repository.clone());
        self.of(fetched.bytes, fetched.digest, place).await
    }

    /// Goes from an index to the manifest of this platform.
    async fn of(&self, bytes: Vec<u8>, digest: Digest, place: Place) -> Result<Base, Error> {
        let (mut bytes, mut digest) = (bytes, digest);
        for _ in 0..DEPTH {
            let read: serde_json::Value = self.read(&bytes, "a manifest")?;
            if read.get("manifests").is_none() {
                return self.of_manifest(&bytes, digest, place).await;
            }
            let index: Index = self.read(&bytes, "an index")?;
            let chosen = self.choose(&index.manifests)?;
            digest = chosen.digest.clone();
            bytes = match &place {
                Place::Layout(folder) => self.document(folder, &digest)?,
                Place::Registry(repository) => {
                    let one = Reference {
                        repository: repository.clone(),
                        tag: None,
                        digest: Some(digest.clone()),
                    };
                    self.registries.manifest(&one).await?.bytes
                }
            };
        }
        Err(self.refused("is an index of indexes", "name one of its images"))
    }

    fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Result<&'a Descriptor, Error> {
        let here = Platform::here();
        let fits = |one: &&Descriptor| one.platform.as_ref().is_none_or(|p| p.fits(&here));
        manifests.iter().find(fits).ok_or_else(|| {
            let all = manifests.iter().filter_map(|one| one.platform.as_ref());
            let all: Vec<String> = all
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            let reason = format!(
                "is not there for {}/{}, only for {}",
                here.os,
                here.architecture,
                all.join(", ")
            );
            self.refused(reason, "set images.base to an image of this platform")
        })
    }

    async fn of_manifest(&self, bytes: &[u8], digest: Digest, place: Place) -> Result<Base, Error> {
        let manifest: Manifest = self.read(bytes, "a manifest")?;
        let config = match &place {
            Place::Layout(folder) => self.document(folder, &manifest.config.digest)?,
            Place::Registry(_) => {
                let fetch = place.fetch(&manifest.config, self.registries, self.memory);
                let path = fetch.await?;
                std::fs::read(&path).map_err(Error::file("read", path))?
            }
        };
        let config: ImageConfig = self.read(&config, "a configuration")?;
        let here = Platform::here();
        if config.os != here.os || config.architecture != here.architecture {
            let reason = format!(
                "is for {}/{}, not for {}/{}",
                config.os, config.architecture, here.os, here.architecture
            );
            return Err(self.refused(reason, "set images.base to an image of this platform"));
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let reason = "has another number of layers in its configuration than in its manifest";
            return Err(self.refused(reason, "set images.base to another image"));
        }
        Ok(Base {
            name: self.name.to_owned(),
            digest,
            config,
            layers: manifest
                .layers
                .into_iter()
                .map(Descriptor::oci_layer)
                .collect(),
            place,
        })
    }

    /// A JSON document of a layout.
    fn document(&self, folder: &Path, digest: &Digest) -> Result<Vec<u8>, Error> {
        let bytes =
            std::fs::read(blob_path(folder, digest)).map_err(|_| not_whole(self.name, digest))?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(Error::Digest {
                from: self.name.to_owned(),
                expected: digest.clone(),
                found,
            }),
        }
    }
}

fn not_whole(base: &str, digest: &Digest) -> Error {
    Error::Base {
        base: base.to_owned(),
        reason: format!("lacks the blob {digest}"),
        help: "make the folder anew: skopeo copy docker://IMAGE oci:FOLDER:TAG".to_owned(),
    }
}

pub(crate) fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}
