//! Registering the model of a run, or a logged model, by hand or at the end of a job.

use serde_json::{Value, json};
use tracking::{Location, LoggedModel, LoggedModelStatus, check_owner};
use web::Identity;

use crate::Registry;
use crate::error::Error;
use crate::version::{ModelVersion, NewVersion};

/// The file that makes a folder a model.
const MODEL_FILE: &str = "MLmodel";

/// The tag of a logged model that lists its versions (`MLFLOW_MODEL_VERSIONS`).
const VERSIONS_TAG: &str = "mlflow.modelVersions";

/// How many artifacts an error lists.
const MAX_LISTED: usize = 50;

/// What is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The model that a run logged.
    Run(String),
    /// A logged model.
    LoggedModel(String),
}

/// A request to register a model.
#[derive(Debug, Clone)]
pub struct Registration {
    pub model_name: String,
    pub subject: Subject,
    pub description: Option<String>,
    pub tags: Vec<(String, String)>,
    /// The job that registers it.
    pub job_id: Option<String>,
}

/// The model of a run or job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    source: String,
    location: Location,
    run_id: Option<String>,
    model_id: Option<String>,
}

impl Registry {
    /// Registers a model and makes the registered model if there is none. The same model under
    /// the same name again is the same version.
    ///
    /// # Errors
    /// [`Error::NoModel`] with what was found instead, [`tracking::Error::RunNotFound`],
    /// [`Error::NotOwnModel`] for a job and a model of others.
    pub async fn register(&self, registration: Registration) -> Result<ModelVersion, Error> {
        let found = match &registration.subject {
            Subject::Run(run_id) => self.model_of_run(run_id).await?,
            Subject::LoggedModel(model_id) => {
                let model = self.tracking().get_logged_model(model_id).await?;
                let subject = format!("logged model {model_id}");
                let location = Location::parse_uri(&model.artifact_uri)?;
                if !self.has_model_file(&location).await? {
                    return Err(self.no_model(subject, &location).await?);
                }
                of_logged_model(model, location)
            }
        };
        let name = &registration.model_name;
        let job_id = registration.job_id.as_deref();
        self.create_model_if_missing(name, job_id).await?;
        let new = NewVersion {
            name: name.clone(),
            source: found.source,
            run_id: found.run_id,
            run_link: None,
            model_id: found.model_id,
            description: registration.description,
            tags: registration.tags,
            job_id: registration.job_id,
        };
        let caller = match &new.job_id {
            Some(job_id) => Identity::Job {
                job_id: job_id.clone(),
            },
            None => Identity::Local,
        };
        let version = self.add_version(new, true).await?;
        self.link(&version, &caller).await?;
        Ok(version)
    }

    /// Notes on the logged model that it is this version, as MLflow's clients do when they
    /// register: pages show the versions of a logged model by this tag.
    /// A job leaves a logged model that it did not make as it is.
    pub(crate) async fn link(
        &self,
        version: &ModelVersion,
        caller: &Identity,
    ) -> Result<(), Error> {
        let Some(model_id) = version.model_id.as_deref() else {
            return Ok(());
        };
        let model = self.tracking().get_logged_model(model_id).await?;
        if check_owner(caller, model.job_id.as_deref(), "logged model", model_id).is_err() {
            return Ok(());
        }
        let known = model.tags.get(VERSIONS_TAG).map(String::as_str);
        // A script may have set the tag to anything.
        let mut versions: Vec<Value> = known
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let own = json!({"name": version.name, "version": version.version});
        // Clients write the number as a text.
        let clients = json!({"name": version.name, "version": version.version.to_string()});
        if versions.contains(&own) || versions.contains(&clients) {
            return Ok(());
        }
        versions.push(own);
        let tags = [(VERSIONS_TAG.to_owned(), spaced(&Value::from(versions)))];
        let tracking = self.tracking();
        let set = tracking.set_logged_model_tags(model_id, &tags, caller);
        set.await?;
        Ok(())
    }

    /// The model of a run: its newest logged model that is ready, else the folder `model`, else the first
    /// folder with an MLmodel file.
    async fn model_of_run(&self, run_id: &str) -> Result<Found, Error> {
        let run = self.tracking().get_run(run_id).await?;
        let logged = self.tracking().logged_models_of_run(run_id).await?;
        // Until it is ready a logged model may lack files.
        let is_ready = |model: &LoggedModel| model.status == LoggedModelStatus::Ready;
        for model in logged.into_iter().filter(is_ready) {
            let location = Location::parse_uri(&model.artifact_uri)?;
            if self.has_model_file(&location).await? {
                return Ok(of_logged_model(model, location));
            }
        }
        let root = Location::parse_uri(&run.artifact_uri)?;
        let files = self.tracking().artifacts().list_all(&root).await?;
        let mut folders: Vec<&str> = files
            .iter()
            .filter_map(|file| match file.path.as_str() {
                MODEL_FILE => Some(""),
                path => path.strip_suffix("/MLmodel"),
            })
            .collect();
        folders.sort_by_key(|folder| (*folder != "model", folder.matches('/').count()));
        let Some(folder) = folders.first() else {
            return Err(self.no_model(format!("run {run_id}"), &root).await?);
        };
        let location = root.join(folder)?;
        Ok(Found {
            source: match self.tracking().external() {
                // There clients say what a `runs:/` URI means.
                Some(_) => location.uri(),
                None => format!("runs:/{run_id}/{folder}")
                    .trim_end_matches('/')
                    .to_owned(),
            },
            location,
            run_id: Some(run_id.to_owned()),
            model_id: None,
        })
    }

    async fn has_model_file(&self, folder: &Location) -> Result<bool, Error> {
        match self
            .tracking()
            .artifacts()
            .get(&folder.join(MODEL_FILE)?)
            .await
        {
            Ok(_) => Ok(true),
            Err(tracking::Error::ArtifactNotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn no_model(&self, subject: String, root: &Location) -> Result<Error, Error> {
        let files = self.tracking().artifacts().list_all(root).await?;
        let listed = files.into_iter().take(MAX_LISTED).map(|file| file.path);
        Ok(Error::NoModel {
            subject,
            searched: root.uri(),
            artifacts: listed.collect(),
        })
    }
}

/// JSON as Python writes it, with a space behind each comma and colon: what MLflow's server keeps
/// in the tag, to the letter.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), spaced(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}

fn of_logged_model(model: LoggedModel, location: Location) -> Found {
    Found {
        source: format!("models:/{}", model.model_id),
        location,
        run_id: model.source_run_id,
        model_id: Some(model.model_id),
    }
}
