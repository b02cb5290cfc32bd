//! Putting an image together: base, Python environment, asgard itself, model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use environments::Environment;
use serde_json::{Map, Value, json};

use crate::Images;
use crate::base::{Base, Place};
use crate::digest::{Digest, of_reader};
use crate::document::{CONFIG, CREATED, Descriptor, MANIFEST, Manifest};
use crate::error::Error;
use crate::glibc::{Glibc, OLDEST};
use crate::layer::{MODEL, PROGRAM, PROOF, Recipe, environment_path};
use crate::memory::Made;
use crate::tree::USER;

/// The port that a model's container listens on.
pub const PORT: u16 = 8080;
/// The port that asgard's own container listens on.
pub const SERVER_PORT: u16 = 8000;
/// Where asgard's own container keeps its data.
const DATA: &str = "data";

/// A model that becomes an image.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub version: i64,
    /// Holds the MLmodel file.
    pub folder: PathBuf,
    pub environment: Environment,
    /// What the model server knows of the model from before, in a file that it can read: with it
    /// a model that is answered without Python answers at once.
    pub proof: Option<PathBuf>,
    /// The run, job and commit that it comes from, as far as they are known, by label.
    pub origin: BTreeMap<String, String>,
}

/// What an image is made for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// To answer for one model.
    Model(Box<Model>),
    /// To be asgard itself.
    Server,
}

/// Told what is done, line by line.
pub type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// An image that is built: all its names and numbers, and where its layers' bytes come from.
pub struct Image {
    /// The digest of its manifest, which names it.
    pub digest: Digest,
    /// The bytes that a pull of it transfers.
    pub size_bytes: u64,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) config_descriptor: Descriptor,
    pub(crate) layers: Vec<Layer>,
}

/// A layer of an image.
pub(crate) struct Layer {
    pub(crate) descriptor: Descriptor,
    pub(crate) source: Source,
}

pub(crate) enum Source {
    Base(Place),
    Made(Box<(Recipe, Made)>),
}

impl Images {
    /// Builds an image on `base`, or on the configured one. Layers that were made before are not
    /// made again.
    ///
    /// # Errors
    /// When the base cannot be read or the files cannot.
    pub async fn build(
        &self,
        purpose: &Purpose,
        base: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Image, Error> {
        let python = match purpose {
            Purpose::Model(model) => minor_version(&model.environment.python_version),
            Purpose::Server => "3.11".to_owned(),
        };
        let name = base.unwrap_or(&self.config.base);
        let name = self
            .with_debian(name.replace("{python}", &python), purpose)
            .await?;
        let base = Base::read(&name, &self.registries, &self.memory).await?;
        let recipes = self.recipes(purpose, &base, &python).await?;
        progress(format!("✓ base {name}, {} layers", base.layers.len()));
        let mut made = Vec::new();
        for recipe in recipes {
            let (layer, known) = self.memory.layer(&recipe).await?;
            let how = if known { "known" } else { "built" };
            let size = megabytes(layer.descriptor.size);
            progress(format!("✓ layer of the {}, {size}, {how}", recipe.name()));
            made.push((recipe, layer));
        }
        let image = assemble(purpose, base, made)?;
        self.memory.prune(self.config.cache_limit_bytes)?;
        Ok(image)
    }

    async fn recipes(
        &self,
        purpose: &Purpose,
        base: &Base,
        python: &str,
    ) -> Result<Vec<Recipe>, Error> {
        let program = Recipe::Program {
            file: self.program.clone(),
            digest: self.program_digest().await?,
        };
        Ok(match purpose {
            Purpose::Model(model) => vec![
                Recipe::Environment {
                    environment: model.environment.clone(),
                    interpreter: self.interpreter(base, python)?,
                },
                program,
                Recipe::Model {
                    folder: model.folder.clone(),
                    proof: model.proof.clone(),
                },
            ],
            Purpose::Server => vec![Recipe::Folder { path: DATA }, program],
        })
    }

    /// Where the base has the Python that the environment was made for.
    fn interpreter(&self, base: &Base, python: &str) -> Result<PathBuf, Error> {
        if let Some(path) = &self.config.python {
            return Ok(path.replace("{python}", python).into());
        }
        let Some(version) = base.config.variable("PYTHON_VERSION") else {
            return Ok(format!("/usr/bin/python{python}").into());
        };
        if minor_version(version) != python {
            return Err(Error::Base {
                base: base.name.clone(),
                reason: format!("has Python {version}, and the model's environment {python}"),
                help: "let images.base contain {python}, such as docker.io/library/python:{python}-slim-{debian}".to_owned(),
            });
        }
        Ok(format!("/usr/local/bin/python{python}").into())
    }

    /// Puts the oldest release of Debian into a base's name on which everything runs.
    async fn with_debian(&self, name: String, purpose: &Purpose) -> Result<String, Error> {
        const DEBIAN: &str = "{debian}";
        if !name.contains(DEBIAN) {
            return Ok(name);
        }
        let program = self.program.clone();
        let root = match purpose {
            Purpose::Model(model) => Some(model.environment.root.clone()),
            Purpose::Server => None,
        };
        let read = tokio::task::spawn_blocking(move || needed_glibc(&program, root.as_deref()));
        let failed = Error::io("find out which glibc the image needs");
        let needed = read
            .await
            .map_err(std::io::Error::other)
            .map_err(failed)??;
        let Some(needed) = needed else {
            return Ok(name.replace(DEBIAN, OLDEST));
        };
        let release = needed.debian().ok_or_else(|| Error::Base {
            base: name.clone(),
            reason: format!("would need glibc {needed}, which no known release of Debian has"),
            help: format!("set images.base to an image with glibc {needed} or newer"),
        })?;
        Ok(name.replace(DEBIAN, release))
    }

    /// The digest of this program's file, read once.
    async fn program_digest(&self) -> Result<String, Error> {
        let file = self.program.clone();
        let read = self.program_digest.get_or_try_init(|| async {
            let failed = Error::file("read the program", &file);
            let path = file.clone();
            let hashed = tokio::task::spawn_blocking(move || {
                of_reader(std::io::BufReader::with_capacity(
                    1 << 18,
                    std::fs::File::open(path)?,
                ))
            });
            let hashed = hashed.await.map_err(std::io::Error::other);
            match hashed.and_then(|hashed| hashed) {
                Ok((digest, _)) => Ok(digest.to_string()),
                Err(error) => Err(failed(error)),
            }
        });
        read.await.cloned()
    }
}

/// The newest glibc that this program, or a compiled package of an environment, needs.
fn needed_glibc(program: &Path, environment: Option<&Path>) -> Result<Option<Glibc>, Error> {
    let needed = Glibc::of_program(program).map_err(Error::file("read", program))?;
    let Some(root) = environment else {
        return Ok(needed);
    };
    let of_wheels = Glibc::of_wheels(root).map_err(Error::file("read", root))?;
    Ok(needed.max(of_wheels))
}

/// Writes configuration and manifest.
fn assemble(purpose: &Purpose, base: Base, made: Vec<(Recipe, Made)>) -> Result<Image, Error> {
    let mut labels = labels(purpose);
    labels.insert("org.opencontainers.image.base.name".to_owned(), base.name);
    let base_digest = base.digest.to_string();
    labels.insert(
        "org.opencontainers.image.base.digest".to_owned(),
        base_digest,
    );

    let mut config = base.config;
    config.created = Some(CREATED.to_owned());
    start(&mut config.config, purpose);
    config
        .config
        .labels
        .get_or_insert_default()
        .extend(labels.clone());
    for (recipe, layer) in &made {
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        config.history.push(history(recipe));
    }
    let place = base.place;
    let below = base.layers.into_iter().map(|descriptor| Layer {
        descriptor,
        source: Source::Base(place.clone()),
    });
    let own = made.into_iter().map(|(recipe, made)| Layer {
        descriptor: made.descriptor.clone(),
        source: Source::Made(Box::new((recipe, made))),
    });
    let layers: Vec<Layer> = below.chain(own).collect();
    let failed = |e: serde_json::Error| Error::io("write the image's documents")(e.into());
    let config = serde_json::to_vec(&config).map_err(failed)?;
    let config_descriptor = Descriptor::new(CONFIG, Digest::of(&config), config.len() as u64);
    // The list of packages is long, and in the configuration already.
    labels.remove(PACKAGES);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: config_descriptor.clone(),
        layers: layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect(),
        annotations: labels,
    };
    let manifest = serde_json::to_vec(&manifest).map_err(failed)?;
    let sizes = layers.iter().map(|layer| layer.descriptor.size);
    Ok(Image {
        digest: Digest::of(&manifest),
        size_bytes: sizes.sum::<u64>() + config_descriptor.size + manifest.len() as u64,
        manifest,
        config,
        config_descriptor,
        layers,
    })
}

/// How a container of the image starts.
fn start(runtime: &mut crate::document::Runtime, purpose: &Purpose) {
    let program = format!("/{PROGRAM}");
    let (entrypoint, command, port) = match purpose {
        Purpose::Model(model) => (model_server(program, model), None, PORT),
        Purpose::Server => {
            let listen = format!("0.0.0.0:{SERVER_PORT}");
            let data = format!("/{DATA}");
            let command = ["up", "--listen", &listen, "--data-dir", &data];
            let command = command.map(str::to_owned).to_vec();
            (vec![program], Some(command), SERVER_PORT)
        }
    };
    runtime.entrypoint = Some(entrypoint);
    runtime.cmd = command;
    runtime.user = Some(format!("{USER}:{USER}"));
    runtime.working_dir = Some("/".to_owned());
    let ports = runtime.exposed_ports.insert(Map::new());
    ports.insert(format!("{port}/tcp"), json!({}));
    let variables = runtime.env.get_or_insert_default();
    for (key, value) in [("HOME", "/tmp"), ("LANG", "C.UTF-8")] {
        let set = |entry: &String| entry.split('=').next() == Some(key);
        variables.retain(|entry| !set(entry));
        variables.push(format!("{key}={value}"));
    }
}

/// The container is the model's sandbox: one model, no key to lose, files that nobody may write.
fn model_server(program: String, model: &Model) -> Vec<String> {
    let environment = Path::new("/").join(environment_path(&model.environment));
    let listen = format!("0.0.0.0:{PORT}");
    let folder = format!("/{MODEL}");
    let version = model.version.to_string();
    let environment = environment.to_string_lossy();
    let words = [
        "model-server",
        "--model",
        &folder,
        "--name",
        &model.name,
        "--model-version",
        &version,
        "--environment",
        &environment,
        "--data-dir",
        "/tmp/asgard",
        "--listen",
        &listen,
        "--isolation",
        "none",
        "--insecure-allow-anonymous",
    ];
    let mut words = words.map(str::to_owned).to_vec();
    if model.proof.is_some() {
        words.extend(["--proof".to_owned(), format!("/{PROOF}")]);
    }
    words.insert(0, program);
    words
}

/// The label that lists all packages with their versions.
const PACKAGES: &str = "asgard.packages";

fn labels(purpose: &Purpose) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut add = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    add("asgard.version", env!("CARGO_PKG_VERSION"));
    let Purpose::Model(model) = purpose else {
        add("org.opencontainers.image.title", "asgard");
        add(
            "org.opencontainers.image.version",
            env!("CARGO_PKG_VERSION"),
        );
        return labels;
    };
    let version = model.version.to_string();
    add("org.opencontainers.image.title", &model.name);
    add("org.opencontainers.image.version", &version);
    add("asgard.model_name", &model.name);
    add("asgard.model_version", &version);
    add("asgard.environment", &model.environment.key);
    add("asgard.python_version", &model.environment.python_version);
    let packages = model.environment.packages.iter();
    let packages: Vec<String> = packages.map(|(name, v)| format!("{name}=={v}")).collect();
    add(PACKAGES, &packages.join(" "));
    if let Some(commit) = model.origin.get("asgard.git_commit") {
        add("org.opencontainers.image.revision", commit);
    }
    for (key, value) in &model.origin {
        add(key, value);
    }
    labels
}

fn history(recipe: &Recipe) -> Map<String, Value> {
    let entry = json!({
        "created": CREATED,
        "created_by": format!("asgard image build: {}", recipe.name()),
    });
    entry.as_object().cloned().unwrap_or_default()
}

/// `3.11` of `3.11.7`.
fn minor_version(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
