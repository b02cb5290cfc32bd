//! The files of a registered version, brought here from a server.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::client::Client;
use crate::commands::segment;
use crate::failure::{Exit, Failure};

/// A model's files on this machine.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) folder: PathBuf,
    /// The key of the environment that it was trained in.
    pub(crate) environment: Option<String>,
    /// The run, job and commit that it comes from, by label.
    pub(crate) origin: BTreeMap<String, String>,
    /// Removed with this, where the files are a copy.
    _copy: Option<tempfile::TempDir>,
}

impl Found {
    /// The model of a folder that stays.
    pub(crate) fn folder(name: String, version: i64, folder: PathBuf) -> Self {
        Self {
            name,
            version,
            folder,
            environment: None,
            origin: BTreeMap::new(),
            _copy: None,
        }
    }
}

/// Brings `MODEL`, `MODEL@ALIAS`, `MODEL/VERSION` or `MODEL/STAGE`.
///
/// # Errors
/// When there is none, or the server refuses.
pub(crate) async fn bring(client: &Client, what: &str) -> Result<Found, Failure> {
    let (name, wanted) = match what.split_once('@') {
        Some((name, alias)) => (name, Wanted::Alias(alias)),
        None => match what.split_once('/') {
            Some((name, version)) => (name, Wanted::VersionOrStage(version)),
            None => (what, Wanted::Latest),
        },
    };
    let path = format!("/mlops/models/{}", segment(name));
    let model = client.get(&path, &[]).await?;
    let versions = model["versions"].as_array().cloned().unwrap_or_default();
    let version = versions.iter().find(|version| wanted.is(version));
    let Some(version) = version else {
        return Err(Failure::new(Exit::NotFound, format!("there is no {what}"))
            .help(format!("'asgard models get {name}' lists its versions")));
    };
    let number = version["version"].as_str().unwrap_or_default().to_owned();
    let copy = tempfile::tempdir().map_err(|e| Failure::of(Exit::Failure, &e))?;
    let query = [("name", name.to_owned()), ("version", number.clone())];
    let uri = client.get("/api/2.0/mlflow/model-versions/get-download-uri", &query);
    let uri = uri.await?["artifact_uri"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    download(client, &uri, copy.path()).await?;
    Ok(Found {
        name: name.to_owned(),
        version: number.parse().unwrap_or_default(),
        folder: copy.path().to_owned(),
        environment: version["tags"]["asgard.environment"]
            .as_str()
            .map(str::to_owned),
        origin: origin(client, version).await?,
        _copy: Some(copy),
    })
}

enum Wanted<'a> {
    Latest,
    Alias(&'a str),
    VersionOrStage(&'a str),
}

impl Wanted<'_> {
    /// Whether a version of the list, whose first is the newest, is meant.
    fn is(&self, version: &Value) -> bool {
        match self {
            Self::Latest => true,
            Self::Alias(alias) => {
                let aliases = version["aliases"].as_array();
                aliases.is_some_and(|all| all.iter().any(|one| one == alias))
            }
            Self::VersionOrStage(text) => {
                let stage = version["stage"].as_str().unwrap_or_default();
                version["version"] == **text || stage.eq_ignore_ascii_case(text)
            }
        }
    }
}

async fn origin(client: &Client, version: &Value) -> Result<BTreeMap<String, String>, Failure> {
    let mut origin = BTreeMap::new();
    for (label, key) in [("asgard.job_id", "job_id"), ("asgard.run_id", "run_id")] {
        if let Some(id) = version[key].as_str() {
            origin.insert(label.to_owned(), id.to_owned());
        }
    }
    let Some(run_id) = origin.get("asgard.run_id").cloned() else {
        return Ok(origin);
    };
    let query = [("run_id", run_id)];
    match client.get("/api/2.0/mlflow/runs/get", &query).await {
        Ok(run) => {
            let tags = run["run"]["data"]["tags"].as_array();
            let mut tags = tags.into_iter().flatten();
            let commit = tags.find(|tag| tag["key"] == "mlflow.source.git.commit");
            if let Some(commit) = commit.and_then(|tag| tag["value"].as_str()) {
                origin.insert("asgard.git_commit".to_owned(), commit.to_owned());
            }
        }
        // A version outlives its run.
        Err(failure) if failure.exit == Exit::NotFound => {}
        Err(failure) => return Err(failure),
    }
    Ok(origin)
}

/// Downloads all files below an `mlflow-artifacts:/` URI.
async fn download(client: &Client, uri: &str, into: &Path) -> Result<(), Failure> {
    let Some(root) = uri.strip_prefix("mlflow-artifacts:/") else {
        let message = format!("the model's files are at {uri}, outside of the server's store");
        return Err(Failure::new(Exit::Failure, message)
            .help("download them, and name their folder in place of the model"));
    };
    let root = root.trim_matches('/').to_owned();
    let failed = |e: std::io::Error| Failure::of(Exit::Failure, &e);
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = format!("{root}/{folder}");
        let path = path.trim_end_matches('/').to_owned();
        let query = [("path", path)];
        let listed = client.get("/api/2.0/mlflow-artifacts/artifacts", &query);
        let listed = listed.await?;
        for file in listed["files"].as_array().into_iter().flatten() {
            let name = file["path"].as_str().unwrap_or_default();
            let inner = Path::new(&folder).join(name);
            let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
            if name.is_empty() || !inner.components().all(plain) {
                let message = format!("the server lists a file {name:?}");
                return Err(Failure::new(Exit::Failure, message));
            }
            if file["is_dir"] == true {
                tokio::fs::create_dir_all(into.join(&inner))
                    .await
                    .map_err(failed)?;
                folders.push(inner.to_string_lossy().into_owned());
                continue;
            }
            let mut to = tokio::fs::File::create(into.join(&inner))
                .await
                .map_err(failed)?;
            let whole = format!("{root}/{}", inner.to_string_lossy());
            let whole: Vec<String> = whole.split('/').map(segment).collect();
            let path = format!("/api/2.0/mlflow-artifacts/artifacts/{}", whole.join("/"));
            client.download(&path, &mut to).await?;
        }
    }
    Ok(())
}
