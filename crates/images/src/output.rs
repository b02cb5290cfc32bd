//! An image as a folder with an OCI layout, or as one file of it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Images;
use crate::base::blob_path;
use crate::digest::Digest;
use crate::document::{Descriptor, Index, MANIFEST, Platform};
use crate::error::Error;
use crate::image::{Image, Source};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What an image consists of on a disk.
struct Parts {
    index: Vec<u8>,
    /// Config and manifest.
    documents: Vec<(Digest, Vec<u8>)>,
    layers: Vec<(Digest, PathBuf)>,
}

impl Images {
    /// Writes an OCI layout into a folder, beside the images that it holds already.
    ///
    /// # Errors
    /// When a layer cannot be had or the folder cannot be written.
    pub async fn write_folder(
        &self,
        image: &Image,
        name: &str,
        folder: &Path,
    ) -> Result<(), Error> {
        let parts = self.parts(image, name).await?;
        let folder = folder.to_owned();
        let place = folder.clone();
        let written = tokio::task::spawn_blocking(move || parts.write_folder(&folder)).await;
        let written = written.map_err(io::Error::other).and_then(|w| w);
        written.map_err(Error::file("write the image into", place))
    }

    /// Writes an archive that `podman load`, `docker load` and `skopeo` take.
    ///
    /// # Errors
    /// When a layer cannot be had or the file cannot be written.
    pub async fn write_archive(&self, image: &Image, name: &str, file: &Path) -> Result<(), Error> {
        let parts = self.parts(image, name).await?;
        let docker = docker_manifest(image, name);
        let file = file.to_owned();
        let place = file.clone();
        let written = tokio::task::spawn_blocking(move || parts.write_archive(docker, &file)).await;
        let written = written.map_err(io::Error::other).and_then(|w| w);
        written.map_err(Error::file("write the image to", place))
    }

    /// The file with the bytes of a layer.
    pub(crate) async fn layer_file(&self, image: &Image, at: usize) -> Result<PathBuf, Error> {
        let layer = &image.layers[at];
        match &layer.source {
            Source::Made(made) => self.memory.bytes(&made.0, &made.1).await,
            Source::Base(place) => {
                let fetch = place.fetch(&layer.descriptor, &self.registries, &self.memory);
                fetch.await
            }
        }
    }

    async fn parts(&self, image: &Image, name: &str) -> Result<Parts, Error> {
        let mut manifest =
            Descriptor::new(MANIFEST, image.digest.clone(), image.manifest.len() as u64);
        manifest.platform = Some(Platform::here());
        let key = "org.opencontainers.image.ref.name".to_owned();
        manifest.annotations.insert(key, name.to_owned());
        let index = serde_json::to_vec(&Index::of(manifest));
        let mut layers = Vec::new();
        for at in 0..image.layers.len() {
            let path = self.layer_file(image, at).await?;
            layers.push((image.layers[at].descriptor.digest.clone(), path));
        }
        Ok(Parts {
            index: index.map_err(|e| Error::io("write the image's index")(e.into()))?,
            documents: vec![
                (image.config_descriptor.digest.clone(), image.config.clone()),
                (image.digest.clone(), image.manifest.clone()),
            ],
            layers,
        })
    }
}

impl Parts {
    fn write_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        for (digest, from) in &self.layers {
            let to = blob_path(folder, digest);
            if !to.exists() {
                let part = to.with_extension("part");
                fs::copy(from, &part)?;
                fs::rename(&part, &to)?;
            }
        }
        for (digest, bytes) in &self.documents {
            fs::write(blob_path(folder, digest), bytes)?;
        }
        fs::write(folder.join("oci-layout"), LAYOUT)?;
        let index = folder.join("index.json");
        let merged = merged(fs::read(&index).ok(), &self.index)?;
        let part = folder.join("index.json.part");
        fs::write(&part, merged)?;
        fs::rename(&part, &index)
    }

    fn write_archive(&self, docker: Vec<u8>, file: &Path) -> io::Result<()> {
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let part = tempfile::Builder::new()
            .prefix(".image-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 18, part.as_file()));
        add(&mut archive, "oci-layout", LAYOUT.len() as u64, LAYOUT)?;
        add(
            &mut archive,
            "index.json",
            self.index.len() as u64,
            &self.index[..],
        )?;
        add(
            &mut archive,
            "manifest.json",
            docker.len() as u64,
            &docker[..],
        )?;
        for (digest, bytes) in &self.documents {
            add(
                &mut archive,
                &blob_name(digest),
                bytes.len() as u64,
                &bytes[..],
            )?;
        }
        let mut written = HashSet::new();
        for (digest, path) in &self.layers {
            if written.insert(digest) {
                let from = File::open(path)?;
                add(
                    &mut archive,
                    &blob_name(digest),
                    from.metadata()?.len(),
                    from,
                )?;
            }
        }
        archive.into_inner()?.flush()?;
        part.persist(file)?;
        Ok(())
    }
}

fn add(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    from: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    archive.append_data(&mut header, name, from)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The same list in the form that older Dockers look for.
fn docker_manifest(image: &Image, name: &str) -> Vec<u8> {
    let layers = image
        .layers
        .iter()
        .map(|layer| blob_name(&layer.descriptor.digest));
    let document = json!([{
        "Config": blob_name(&image.config_descriptor.digest),
        "RepoTags": [name],
        "Layers": layers.collect::<Vec<_>>(),
    }]);
    document.to_string().into_bytes()
}

/// An index with the image of another one, which takes the place of what has its name.
fn merged(old: Option<Vec<u8>>, new: &[u8]) -> io::Result<Vec<u8>> {
    let Some(old) = old else {
        return Ok(new.to_vec());
    };
    let mut all: Index = serde_json::from_slice(&old)?;
    let new: Index = serde_json::from_slice(new)?;
    for manifest in new.manifests {
        all.manifests
            .retain(|one| one.annotations != manifest.annotations);
        all.manifests.push(manifest);
    }
    Ok(serde_json::to_vec(&all)?)
}
