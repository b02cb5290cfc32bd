//! `asgard image build`: a model, or asgard itself, as a container image.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use environments::Environments;
use images::{Image, Images, Model, Purpose, Reference, path_component};
use sandbox::Sandbox;
use serde_json::{Value, json};
use serving::ModelFolder;

use super::Context;
use super::cli::{Remote, data_dir_flag};
use super::output::{Column, OutputArgs, message};
use crate::failure::{Exit, Failure};
use crate::model_files::{self, Found};
use crate::settings::{Flags, Settings};
use crate::up;

const COLUMNS: &[Column] = &[
    ("image", "/reference"),
    ("digest", "/digest"),
    ("size, bytes", "/size_bytes"),
    ("sent, bytes", "/sent_bytes"),
];

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build the image of a model, or of asgard itself
    Build(Box<BuildArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard image build churn@champion                     push to the registry of the settings
  asgard image build churn/4 --output registry:registry.example.org/team/churn:4
  asgard image build churn --output tar:churn.tar       for podman load, docker load, skopeo
  asgard image build ./model --output dir:layout --base dir:python-layout
  asgard image build --self --output tar:asgard.tar

The image holds the base image, the model's Python environment, asgard as its model server and the
model's files. It listens on port 8080, as a user without rights, and writes only below /tmp.")]
struct BuildArgs {
    /// MODEL, MODEL@ALIAS, MODEL/VERSION or MODEL/STAGE of the server, or a folder with an MLmodel file
    #[arg(required_unless_present = "this", conflicts_with = "this")]
    what: Option<String>,
    /// The image of asgard itself, which starts the server
    #[arg(long = "self", id = "this")]
    this: bool,
    /// dir:PATH (OCI layout), tar:PATH, registry:REFERENCE, or registry [default: registry, as in images.registry]
    #[arg(long, value_name = "WHERE", default_value = "registry")]
    output: String,
    /// The image to build on: a reference, or dir:PATH of an OCI layout [default: images.base]
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// The name that the model of a folder answers under [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The version that the model of a folder answers as
    #[arg(long, value_name = "N", default_value_t = 1)]
    model_version: i64,
    /// The server [default: ASGARD_URL, else the configured address]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where environments and finished layers are kept [default: as for asgard up]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print data only, no messages
    #[arg(short, long)]
    quiet: bool,
}

/// Where an image goes.
enum Output {
    Folder(PathBuf),
    Archive(PathBuf),
    Registry(Option<Reference>),
}

pub(crate) async fn run(context: &Context<'_>, args: &ImageArgs) -> anyhow::Result<()> {
    let ImageCommand::Build(args) = &args.command;
    let output = output(&args.output)?;
    let flags: Flags = data_dir_flag(args.data_dir.as_ref()).into_iter().collect();
    let settings = context.load(&flags)?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let images = Images::open(&settings.images, &data_dir, program).map_err(told)?;

    // Files that were brought here go when the image is built.
    let (purpose, _files) = match &args.what {
        Some(what) => {
            let found = find(context, args, what).await?;
            let model = model(&settings, &data_dir, &found).await?;
            (Purpose::Model(Box::new(model)), Some(found))
        }
        None => (Purpose::Server, None),
    };
    let place = match output {
        Output::Registry(None) => Output::Registry(Some(match &purpose {
            Purpose::Model(model) => images.place(&model.name, model.version).map_err(told)?,
            Purpose::Server => images.place("asgard", 0).map_err(told)?.tagged(VERSION),
        })),
        other => other,
    };
    let tell = |line: String| {
        if !args.quiet {
            message(&line);
        }
    };
    let image = images.build(&purpose, args.base.as_deref(), &tell).await;
    let image = image.map_err(told)?;
    let document = deliver(&images, &image, &purpose, place, &tell).await?;
    Ok(OutputArgs::plain(args.json, args.quiet).one(&document, COLUMNS)?)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn output(text: &str) -> Result<Output, Failure> {
    let unknown = || {
        Failure::new(Exit::Usage, format!("{text:?} is no place for an image"))
            .help("--output dir:PATH, tar:PATH, registry:REFERENCE or registry")
    };
    match text.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => Ok(Output::Folder(path.into())),
        Some(("tar", path)) if !path.is_empty() => Ok(Output::Archive(path.into())),
        Some(("registry", name)) => {
            let reference = Reference::parse(name).map_err(told)?;
            Ok(Output::Registry(Some(reference)))
        }
        None if text == "registry" => Ok(Output::Registry(None)),
        _ => Err(unknown()),
    }
}

/// The model's files: a folder of this machine, or a version of the server.
async fn find(context: &Context<'_>, args: &BuildArgs, what: &str) -> anyhow::Result<Found> {
    let folder = Path::new(what);
    if folder.join("MLmodel").is_file() {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot find {what}"))?;
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        let name = name.to_string_lossy().into_owned();
        let name = args.name.clone().unwrap_or(name);
        return Ok(Found::folder(name, args.model_version, folder));
    }
    let remote = Remote {
        url: args.url.clone(),
        ..Remote::default()
    };
    let client = context.client(&remote)?;
    Ok(model_files::bring(&client, what).await?)
}

/// The model with its environment: the one that it was trained in when that is here, else one
/// made of its requirements.
async fn model(settings: &Settings, data_dir: &Path, found: &Found) -> anyhow::Result<Model> {
    let sandbox = Sandbox::detect(&settings.sandbox).await?;
    let opened = Environments::open(&settings.environments, data_dir, sandbox).await;
    let environments = opened.context("cannot open the store of Python environments")?;
    let known = match &found.environment {
        Some(key) => environments.find(key).await,
        None => None,
    };
    let folder = ModelFolder {
        name: found.name.clone(),
        version: found.version,
        folder: found.folder.clone().into(),
        environment: known,
        proof: None,
    };
    let found_all = async {
        let folder = folder.with_environment(&environments).await?;
        folder.with_proof(data_dir).await
    };
    let folder = found_all.await.map_err(|error| {
        let failure = Failure::of(Exit::Failure, &error);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    })?;
    let environment = folder.environment.context("the model has no environment")?;
    Ok(Model {
        name: folder.name,
        version: folder.version,
        folder: folder.folder.to_path_buf(),
        environment,
        proof: folder.proof,
        origin: found.origin.clone(),
    })
}

async fn deliver(
    images: &Images,
    image: &Image,
    purpose: &Purpose,
    place: Output,
    tell: images::Progress<'_>,
) -> Result<Value, Failure> {
    let name = match purpose {
        Purpose::Model(model) => format!("{}:{}", path_component(&model.name), model.version),
        Purpose::Server => format!("asgard:{VERSION}"),
    };
    let (reference, sent_bytes) = match place {
        Output::Folder(folder) => {
            let written = images.write_folder(image, &name, &folder).await;
            written.map_err(told)?;
            (format!("oci:{}:{name}", folder.display()), None)
        }
        Output::Archive(file) => {
            let written = images.write_archive(image, &name, &file).await;
            written.map_err(told)?;
            (format!("oci-archive:{}", file.display()), None)
        }
        Output::Registry(to) => {
            let to = to.ok_or_else(|| Failure::new(Exit::Usage, "no registry is named"))?;
            let pushed = images.push(image, &to, tell).await.map_err(told)?;
            (pushed.reference, Some(pushed.sent_bytes))
        }
    };
    Ok(json!({
        "reference": reference,
        "name": name,
        "digest": image.digest,
        "size_bytes": image.size_bytes,
        "sent_bytes": sent_bytes,
    }))
}

/// A failure in the words that name the fix.
fn told(error: images::Error) -> Failure {
    let exit = match error {
        images::Error::Denied { .. } => Exit::Denied,
        images::Error::NotFound { .. } => Exit::NotFound,
        images::Error::Unreachable { .. } => Exit::Unreachable,
        images::Error::Reference { .. } => Exit::Usage,
        _ => Exit::Failure,
    };
    let failure = Failure::of(exit, &error);
    match error.help() {
        Some(help) => failure.help(help),
        None => failure,
    }
}
