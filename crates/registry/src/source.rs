//! Where a version says that its files are, and where that is.
//!
//! A caller's source is text of a stranger: it may be inside this server's artifact store, or at
//! an address that this server keeps but never reads (`s3://...`). It is never a path on this
//! machine, unless that is the run's own artifact folder (CVE-2023-1177, CVE-2023-2780).

use std::path::Path;

use tracking::{Location, Owner};

use crate::Registry;
use crate::error::Error;
use crate::name;
use crate::selector::Selector;
use crate::version::NewVersion;

/// What MLflow's clients give as the source of a prompt, which has no files.
const NO_FILES: [&str; 2] = ["dummy-source", "prompt-template"];

/// What a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// An `mlflow-artifacts:/` URI, or the source itself when it is elsewhere.
    pub(crate) location: String,
    pub(crate) run_id: Option<String>,
    pub(crate) model_id: Option<String>,
    /// The server's own tags of the version that is copied: its environment is this one's too.
    pub(crate) tags: Vec<(String, String)>,
}

/// Finds the place that the source of a new version names, and the run and logged model that it
/// belongs to when the caller leaves them out.
pub(crate) async fn resolve(registry: &Registry, new: &NewVersion) -> Result<Place, Error> {
    let source = new.source.as_str();
    let given = Place {
        location: source.to_owned(),
        run_id: new.run_id.clone().filter(|id| !id.is_empty()),
        model_id: new.model_id.clone().filter(|id| !id.is_empty()),
        tags: Vec::new(),
    };
    if source.is_empty() {
        return Err(tracking::Error::Missing("source".to_owned()).into());
    }
    if NO_FILES.contains(&source) {
        return Ok(given);
    }
    check_text(source)?;
    let place = match source.split_once(':') {
        Some(("runs", path)) => of_run(registry, source, path, given).await?,
        Some(("models", path)) => of_model(registry, source, path, given).await?,
        Some(("mlflow-artifacts", _)) => {
            let location = Location::parse_uri(source)
                .map_err(|_| refused(source, "It names no place in this server's store."))?;
            inside(registry, source, &location, given).await?
        }
        Some((scheme, rest)) if rest.starts_with("//") && is_remote(scheme) => given,
        // `dbfs:/...` is the one remote address with a single slash.
        Some(("dbfs", rest)) if rest.starts_with('/') => given,
        _ => on_disk(registry, source, given).await?,
    };
    Ok(place)
}

fn refused(source: &str, reason: &'static str) -> Error {
    Error::Source {
        source_uri: source.to_owned(),
        reason,
    }
}

/// Whether this is the scheme of a URI; one letter is a drive of Windows.
fn is_scheme(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.len() > 1 && text.chars().all(letters)
}

fn is_remote(scheme: &str) -> bool {
    is_scheme(scheme) && !scheme.eq_ignore_ascii_case("file")
}

/// Refuses what reads as a way out of a folder, now or after any decoding.
fn check_text(source: &str) -> Result<(), Error> {
    const REASON: &str = "An absolute path must be provided without relative path references.";
    let path = match source.split_once(':') {
        Some((scheme, path)) if is_scheme(scheme) => path,
        _ => source,
    };
    let path = path.trim_start_matches('/').split(['?', '#']).next();
    // A path that a location takes has no `..`, backslash, `;` or NUL in any reading.
    let path = path.unwrap_or_default();
    let doubled = path.replace("//", "/");
    Location::root()
        .join(&doubled)
        .map(|_| ())
        .map_err(|_| refused(source, REASON))
}

async fn of_run(
    registry: &Registry,
    source: &str,
    path: &str,
    given: Place,
) -> Result<Place, Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.starts_with('/') {
        return Err(refused(source, "A runs:/ URI names no server."));
    }
    let (run_id, path) = path.split_once('/').unwrap_or((path, ""));
    if run_id.is_empty() {
        return Err(refused(source, "It names no run."));
    }
    let run = match registry.tracking().get_run(run_id).await {
        Ok(run) => run,
        // As MLflow does: a version may say that it came from a run of another server. Its files
        // are nowhere, and loading it says so.
        Err(tracking::Error::RunNotFound(_)) if given.run_id.is_some() => return Ok(given),
        Err(tracking::Error::RunNotFound(_)) => {
            return Err(refused(source, "There is no such run."));
        }
        Err(error) => return Err(error.into()),
    };
    if given.run_id.as_deref().is_some_and(|id| id != run_id) {
        return Err(refused(source, "It is not in the run that run_id names."));
    }
    let root = Location::parse_uri(&run.artifact_uri)?;
    let folder = root.join(path)?;
    let mut place = Place {
        location: folder.uri(),
        run_id: Some(run_id.to_owned()),
        model_id: given.model_id,
        tags: Vec::new(),
    };
    // From MLflow 3 on `runs:/ID/NAME` means the run's logged model of that name.
    if registry
        .tracking()
        .artifacts()
        .list(&folder)
        .await?
        .is_empty()
    {
        let logged = registry.tracking().logged_models_of_run(run_id).await?;
        if let Some(model) = logged.into_iter().find(|model| model.name == path) {
            place.location = model.artifact_uri;
            place.model_id = Some(model.model_id);
        }
    }
    Ok(place)
}

async fn of_model(
    registry: &Registry,
    source: &str,
    path: &str,
    given: Place,
) -> Result<Place, Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.starts_with('/') {
        return Err(refused(source, "A models:/ URI names no server."));
    }
    if path.starts_with("m-") && !path.contains(['/', '@']) {
        if given.model_id.as_deref().is_some_and(|id| id != path) {
            let reason = "It is not the logged model that model_id names.";
            return Err(refused(source, reason));
        }
        let model = registry.tracking().get_logged_model(path).await;
        let model = model.map_err(|error| match error {
            tracking::Error::LoggedModelNotFound(_) => {
                refused(source, "There is no such logged model.")
            }
            error => error.into(),
        })?;
        return Ok(Place {
            location: model.artifact_uri,
            run_id: given.run_id.or(model.source_run_id),
            model_id: Some(model.model_id),
            tags: Vec::new(),
        });
    }
    let (name, which) = match (path.split_once('/'), path.split_once('@')) {
        (Some((name, version)), _) => (name, Selector::parse(Some(version))?),
        (None, Some((name, alias))) => (name, Selector::Alias(alias.to_owned())),
        (None, None) => return Err(refused(source, "It names no version of a model.")),
    };
    let version = registry.resolve(name, &which).await?;
    Ok(Place {
        location: version.location,
        run_id: given.run_id.or(version.run_id),
        model_id: given.model_id.or(version.model_id),
        tags: version
            .tags
            .into_iter()
            .filter(|(key, _)| name::check_not_reserved(key).is_err())
            .collect(),
    })
}

/// A place in this server's store must be in the folder of a run or logged model, the one that
/// the caller names if it names one.
async fn inside(
    registry: &Registry,
    source: &str,
    location: &Location,
    given: Place,
) -> Result<Place, Error> {
    const REASON: &str =
        "It is not in the artifact folder of a run or logged model, or of another one than named.";
    let within = |root: &str| Location::parse_uri(root).is_ok_and(|root| location.is_within(&root));
    let (run_id, model_id, found) = match Owner::of(location) {
        Some(Owner::Run(run_id)) => match registry.tracking().get_run(&run_id).await {
            Ok(run) => (Some(run_id), None, within(&run.artifact_uri)),
            Err(tracking::Error::RunNotFound(_)) => (None, None, false),
            Err(error) => return Err(error.into()),
        },
        Some(Owner::LoggedModel(id)) => match registry.tracking().get_logged_model(&id).await {
            Ok(model) => (model.source_run_id, Some(id), within(&model.artifact_uri)),
            Err(tracking::Error::LoggedModelNotFound(_)) => (None, None, false),
            Err(error) => return Err(error.into()),
        },
        Some(Owner::Trace(_)) | None => (None, None, false),
    };
    let other = |given: &Option<String>, found: &Option<String>| {
        given.is_some() && found.is_some() && given != found
    };
    if !found || other(&given.run_id, &run_id) || other(&given.model_id, &model_id) {
        return Err(refused(source, REASON));
    }
    Ok(Place {
        location: location.uri(),
        run_id: given.run_id.or(run_id),
        model_id: given.model_id.or(model_id),
        tags: Vec::new(),
    })
}

/// A path on this machine is refused, unless it is in the artifact folder of the run named.
async fn on_disk(registry: &Registry, source: &str, given: Place) -> Result<Place, Error> {
    const REASON: &str = "To use a local path as a model version source, the run_id request \
         parameter has to be specified and the local path has to be contained within the artifact \
         directory of the run specified by the run_id.";
    let path = source.strip_prefix("file:").unwrap_or(source);
    let path = path.strip_prefix("//").unwrap_or(path);
    let Some(run_id) = given.run_id.as_deref() else {
        return Err(refused(source, REASON));
    };
    let Ok(run) = registry.tracking().get_run(run_id).await else {
        return Err(refused(source, REASON));
    };
    let root = Location::parse_uri(&run.artifact_uri)?;
    let folder = registry.tracking().artifacts().local_dir(&root);
    let below = folder.and_then(|folder| {
        let below = Path::new(path).strip_prefix(folder).ok()?;
        below.to_str().map(str::to_owned)
    });
    let below = below.ok_or_else(|| refused(source, REASON))?;
    Ok(Place {
        location: root.join(&below)?.uri(),
        ..given
    })
}
