//! What came of a script: the runs and models that the job made, and the version that is
//! registered from them.

use registry::{ENVIRONMENT_TAG, ModelVersion, Registration, Registry, Subject};
use tracking::{Location, LoggedModelStatus, Run, RunStatus, Tracking};

use crate::error::Error;
use crate::failure::{self, Failure};
use crate::job::{Job, LeftBehind, Problem};
use crate::launch::Package;
use crate::pickle;

/// The version tag of a model that was logged as a pickle.
const WRAPPED_TAG: &str = "asgard.wrapped";
/// How many artifacts a warning lists.
const LISTED: usize = 50;

/// What is known of the job's surroundings when its model is registered.
pub(crate) struct Surroundings<'s> {
    pub(crate) environment: Option<&'s str>,
    pub(crate) python_version: &'s str,
    pub(crate) packages: &'s [Package],
}

/// What a job made.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) run_id: Option<String>,
    pub(crate) run_ids: Vec<String>,
    pub(crate) model_ids: Vec<String>,
    pub(crate) version: Option<ModelVersion>,
    /// The experiment of the run, where it is not the one asked for.
    pub(crate) other_experiment: Option<String>,
    pub(crate) warnings: Vec<Problem>,
    /// Lines for the log.
    pub(crate) notes: Vec<String>,
    pub(crate) failure: Option<Failure>,
}

/// What is there of a job before its script begins: what earlier attempts left.
pub(crate) async fn left_behind(registry: &Registry, job_id: &str) -> Result<LeftBehind, Error> {
    let tracking = registry.tracking();
    let runs = tracking.runs_of_job(job_id).await?;
    let models = tracking.logged_models_of_job(job_id).await?;
    let versions = registry.versions_of_job(job_id).await?;
    Ok(LeftBehind {
        run_ids: runs.into_iter().map(|run| run.run_id).collect(),
        model_ids: models.into_iter().map(|model| model.model_id).collect(),
        versions: versions.into_iter().map(|v| (v.name, v.version)).collect(),
    })
}

/// Ends the runs that a job left open, and tells which runs it made. For jobs that failed.
pub(crate) async fn close(
    tracking: &Tracking,
    job: &Job,
    status: RunStatus,
) -> Result<Outcome, Error> {
    tracking.end_runs_of_job(&job.job_id, status).await?;
    let runs = runs_of(tracking, job).await?;
    let left = &job.facts.left_behind.model_ids;
    let models = tracking.logged_models_of_job(&job.job_id).await?;
    let ids = models.into_iter().map(|model| model.model_id);
    Ok(Outcome {
        run_id: runs.last().map(|run| run.run_id.clone()),
        run_ids: runs.into_iter().map(|run| run.run_id).collect(),
        model_ids: ids.filter(|id| !left.contains(id)).collect(),
        ..Outcome::default()
    })
}

/// The runs of this attempt, oldest first.
async fn runs_of(tracking: &Tracking, job: &Job) -> Result<Vec<Run>, Error> {
    let mut runs = tracking.runs_of_job(&job.job_id).await?;
    runs.retain(|run| !job.facts.left_behind.run_ids.contains(&run.run_id));
    Ok(runs)
}

/// The versions that the script of this attempt registered, oldest first.
async fn versions_of(registry: &Registry, job: &Job) -> Result<Vec<ModelVersion>, Error> {
    let left = &job.facts.left_behind.versions;
    let mut versions = registry.versions_of_job(&job.job_id).await?;
    versions.retain(|v| !left.contains(&(v.name.clone(), v.version)));
    Ok(versions)
}

/// Finds what a script that ended well made, and registers its model.
pub(crate) async fn register(
    registry: &Registry,
    job: &Job,
    surroundings: &Surroundings<'_>,
) -> Result<Outcome, Error> {
    let tracking = registry.tracking();
    let mut outcome = close(tracking, job, RunStatus::Finished).await?;
    let runs = runs_of(tracking, job).await?;
    if runs.is_empty() && outcome.model_ids.is_empty() {
        outcome.failure = Some(failure::no_mlflow_run(job.request.autolog));
        return Ok(outcome);
    }
    match find_version(registry, job, &runs, &outcome.model_ids, surroundings).await {
        Ok(Some(version)) => {
            outcome.run_id = version.run_id.clone().or(outcome.run_id);
            label(registry, job, &version, surroundings).await?;
            outcome.version = Some(version);
        }
        Ok(None) => {
            let problem = if outcome.model_ids.is_empty() {
                failure::no_model_artifact(&list_artifacts(tracking, &runs).await?)
            } else {
                failure::model_not_stored(&outcome.model_ids)
            };
            if job.request.require_model {
                outcome.failure = Some(Failure {
                    reason: crate::job::Reason::User,
                    problem,
                });
            } else {
                outcome.warnings.push(problem);
            }
        }
        Err(Error::Registry(error)) if !error.is_away() => {
            outcome.failure = Some(failure::registration_failed(
                &job.request.model_name,
                &error,
            ));
        }
        Err(error) => return Err(error),
    }
    if let Some(run) = runs
        .iter()
        .find(|run| Some(&run.run_id) == outcome.run_id.as_ref())
    {
        note_other_experiment(tracking, job, run, &mut outcome).await?;
    }
    let tags: Vec<(String, String)> = job.request.tags.clone().into_iter().collect();
    if !tags.is_empty() {
        for run in &runs {
            tracking.set_run_tags(&run.run_id, &tags).await?;
        }
    }
    Ok(outcome)
}

/// The version of the job's model: the one that the script registered itself under the job's
/// model name, else a new one from the newest model that it logged.
async fn find_version(
    registry: &Registry,
    job: &Job,
    runs: &[Run],
    model_ids: &[String],
    surroundings: &Surroundings<'_>,
) -> Result<Option<ModelVersion>, Error> {
    let name = &job.request.model_name;
    let own = versions_of(registry, job).await?;
    if let Some(version) = own.into_iter().rfind(|version| &version.name == name) {
        return Ok(Some(version));
    }
    for model_id in model_ids.iter().rev() {
        // One whose upload broke off may lack files.
        let model = registry.tracking().get_logged_model(model_id).await?;
        if model.status != LoggedModelStatus::Ready {
            continue;
        }
        let subject = Subject::LoggedModel(model_id.clone());
        if let Some(version) = register_subject(registry, job, subject).await? {
            return Ok(Some(version));
        }
    }
    for run in runs.iter().rev() {
        let subject = Subject::Run(run.run_id.clone());
        if let Some(version) = register_subject(registry, job, subject).await? {
            return Ok(Some(version));
        }
    }
    for run in runs.iter().rev() {
        if wrap_pickle(registry.tracking(), run, surroundings).await? {
            let subject = Subject::Run(run.run_id.clone());
            let version = register_subject(registry, job, subject).await?;
            if let Some(version) = &version {
                registry
                    .set_version_tag(name, version.version, WRAPPED_TAG, "pickle")
                    .await?;
            }
            return Ok(version);
        }
    }
    Ok(None)
}

/// Registers a run's or logged model's files; `None` when they are no model.
async fn register_subject(
    registry: &Registry,
    job: &Job,
    subject: Subject,
) -> Result<Option<ModelVersion>, Error> {
    let registration = Registration {
        model_name: job.request.model_name.clone(),
        subject,
        description: None,
        tags: job.request.tags.clone().into_iter().collect(),
        job_id: Some(job.job_id.clone()),
    };
    match registry.register(registration).await {
        Ok(version) => Ok(Some(version)),
        Err(registry::Error::NoModel { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a lone pickle of a run a model.
async fn wrap_pickle(
    tracking: &Tracking,
    run: &Run,
    surroundings: &Surroundings<'_>,
) -> Result<bool, Error> {
    let root = Location::parse_uri(&run.artifact_uri)?;
    let files = tracking.artifacts().list_all(&root).await?;
    let Some(path) = pickle::find(&files) else {
        return Ok(false);
    };
    let (folder, name) = path.split_once('/').unwrap_or(("", path));
    pickle::wrap(
        tracking.artifacts(),
        &root.join(folder)?,
        name,
        &run.run_id,
        surroundings.python_version,
        surroundings.packages,
    )
    .await?;
    Ok(true)
}

/// Gives the versions that the job made the tags that serving and people look for.
async fn label(
    registry: &Registry,
    job: &Job,
    version: &ModelVersion,
    surroundings: &Surroundings<'_>,
) -> Result<(), Error> {
    if let Some(environment) = surroundings.environment {
        for own in versions_of(registry, job).await? {
            registry
                .set_version_tag(&own.name, own.version, ENVIRONMENT_TAG, environment)
                .await?;
        }
    }
    for (key, value) in &job.request.tags {
        if version.tags.get(key) != Some(value) {
            registry
                .set_version_tag(&version.name, version.version, key, value)
                .await?;
        }
    }
    Ok(())
}

async fn list_artifacts(tracking: &Tracking, runs: &[Run]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for run in runs.iter().rev() {
        let root = Location::parse_uri(&run.artifact_uri)?;
        let files = tracking.artifacts().list_all(&root).await?;
        found.extend(files.into_iter().map(|file| file.path));
    }
    found.truncate(LISTED);
    Ok(found)
}

async fn note_other_experiment(
    tracking: &Tracking,
    job: &Job,
    run: &Run,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let experiment = tracking.get_experiment(&run.experiment_id).await?;
    if experiment.name != job.request.experiment_name {
        outcome.notes.push(format!(
            "The script chose the experiment {:?}; the upload asked for {:?}",
            experiment.name, job.request.experiment_name
        ));
        outcome.other_experiment = Some(experiment.name);
    }
    Ok(())
}
