//! Experiments, runs and logged models of an external server, as jobs and the registry ask for them.

use serde::Deserialize;
use serde_json::{Value, json};
use web::Timestamp;

use super::{External, Kind, is_missing, take};
use crate::Counts;
use crate::error::Error;
use crate::experiment::Experiment;
use crate::logged_model::{LoggedModel, LoggedModelStatus};
use crate::run::{LifecycleStage, Run, RunStatus};
use crate::wire::{Int, KeyValue, List, pairs};

/// The most that MLflow gives on one page of experiments that all its versions take.
const PAGE: &str = "1000";
/// The most tags in one request (`MAX_PARAMS_TAGS_PER_BATCH`).
const TAGS: usize = 100;

#[derive(Deserialize, Default)]
#[serde(default)]
struct ExperimentBody {
    experiment_id: String,
    name: String,
    artifact_location: String,
    lifecycle_stage: String,
    creation_time: Option<Int>,
    last_update_time: Option<Int>,
    tags: List<KeyValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RunBody {
    run_id: String,
    run_name: String,
    experiment_id: String,
    status: String,
    lifecycle_stage: String,
    user_id: String,
    start_time: Option<Int>,
    end_time: Option<Int>,
    artifact_uri: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ModelBody {
    model_id: String,
    experiment_id: String,
    name: String,
    artifact_uri: String,
    creation_timestamp_ms: Option<Int>,
    last_updated_timestamp_ms: Option<Int>,
    status: String,
    status_message: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    tags: List<KeyValue>,
}

fn stage(text: &str) -> LifecycleStage {
    LifecycleStage::read(text)
}

fn millis(value: Option<Int>) -> i64 {
    value.map_or(0, |Int(millis)| millis)
}

impl External {
    /// Reads a part of an answer.
    fn part<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, Error> {
        serde_json::from_value(value).map_err(|error| Error::ExternalAnswer {
            url: self.url().to_owned(),
            status: 502,
            error_code: None,
            message: format!("its answer is not MLflow's: {error}"),
        })
    }

    fn experiment(&self, mut answer: Value) -> Result<Experiment, Error> {
        let body: ExperimentBody = self.part(take(&mut answer, "/experiment"))?;
        Ok(Experiment {
            experiment_id: body.experiment_id,
            name: body.name,
            artifact_location: body.artifact_location,
            lifecycle_stage: stage(&body.lifecycle_stage),
            creation_time: millis(body.creation_time),
            last_update_time: millis(body.last_update_time),
            job_id: None,
            tags: pairs(body.tags, "tags")?,
        })
    }

    pub(crate) async fn get_experiment(&self, id: &str) -> Result<Experiment, Error> {
        let fields = [("experiment_id", id)];
        let answer = self.get("2.0/mlflow/experiments/get", &fields).await;
        self.experiment(answer.map_err(|error| match is_missing(&error) {
            true => Error::ExperimentNotFound {
                by: format!("id={id}"),
            },
            false => error,
        })?)
    }

    pub(crate) async fn find_experiment(&self, name: &str) -> Result<Option<Experiment>, Error> {
        let fields = [("experiment_name", name)];
        match self
            .get("2.0/mlflow/experiments/get-by-name", &fields)
            .await
        {
            Ok(answer) => self.experiment(answer).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an experiment; that somebody else just did is fine.
    pub(crate) async fn create_experiment(&self, name: &str) -> Result<(), Error> {
        let fields = json!({ "name": name });
        match self.post("2.0/mlflow/experiments/create", &fields).await {
            Err(Error::ExternalAnswer {
                error_code: Some(code),
                ..
            }) if code == "RESOURCE_ALREADY_EXISTS" => Ok(()),
            made => made.map(|_| ()),
        }
    }

    pub(crate) async fn get_run(&self, run_id: &str) -> Result<Run, Error> {
        let fields = [("run_id", run_id)];
        let answer = self.get("2.0/mlflow/runs/get", &fields).await;
        let mut answer = answer.map_err(|error| match is_missing(&error) {
            true => Error::RunNotFound(run_id.to_owned()),
            false => error,
        })?;
        let body: RunBody = self.part(take(&mut answer, "/run/info"))?;
        let stamp = self.stamp_of(Kind::Run, &body.run_id).await?;
        Ok(Run {
            status: RunStatus::parse(&body.status).unwrap_or(RunStatus::Running),
            lifecycle_stage: stage(&body.lifecycle_stage),
            run_id: body.run_id,
            experiment_id: body.experiment_id,
            name: body.run_name,
            user_id: body.user_id,
            start_time: millis(body.start_time),
            end_time: body.end_time.map(|Int(millis)| millis).filter(|at| *at > 0),
            artifact_uri: body.artifact_uri,
            job_id: stamp.map(|stamp| stamp.job_id),
            row: 0,
        })
    }

    /// The runs that a job made, oldest first; those that are gone are passed over.
    pub(crate) async fn runs_of_job(&self, job_id: &str) -> Result<Vec<Run>, Error> {
        let mut runs = Vec::new();
        for stamp in self.stamps_of_job(Kind::Run, job_id).await? {
            match self.get_run(&stamp.id).await {
                Ok(run) => runs.push(run),
                Err(Error::RunNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }

    pub(crate) async fn end_runs_of_job(
        &self,
        job_id: &str,
        status: RunStatus,
    ) -> Result<u64, Error> {
        let mut ended = 0;
        for run in self.runs_of_job(job_id).await? {
            let open = [RunStatus::Running, RunStatus::Scheduled].contains(&run.status);
            if !open || run.lifecycle_stage == LifecycleStage::Deleted {
                continue;
            }
            let fields = json!({
                "run_id": run.run_id,
                "status": status.as_str(),
                "end_time": Timestamp::now().0,
            });
            self.post("2.0/mlflow/runs/update", &fields).await?;
            ended += 1;
        }
        Ok(ended)
    }

    pub(crate) async fn set_run_tags(
        &self,
        run_id: &str,
        tags: &[(String, String)],
    ) -> Result<(), Error> {
        for tags in tags.chunks(TAGS) {
            let fields = json!({ "run_id": run_id, "tags": key_values(tags) });
            self.post("2.0/mlflow/runs/log-batch", &fields).await?;
        }
        Ok(())
    }

    fn logged_model(
        &self,
        mut answer: Value,
        job_id: Option<String>,
    ) -> Result<LoggedModel, Error> {
        let body: ModelBody = self.part(take(&mut answer, "/info"))?;
        let status = LoggedModelStatus::parse(&body.status);
        Ok(LoggedModel {
            model_id: body.model_id,
            experiment_id: body.experiment_id,
            name: body.name,
            artifact_uri: body.artifact_uri,
            creation_time: millis(body.creation_timestamp_ms),
            last_update_time: millis(body.last_updated_timestamp_ms),
            status: status.unwrap_or(LoggedModelStatus::Pending),
            status_message: body.status_message,
            lifecycle_stage: LifecycleStage::Active,
            model_type: body.model_type,
            source_run_id: body.source_run_id.filter(|id| !id.is_empty()),
            job_id,
            tags: pairs(body.tags, "tags")?.into_iter().collect(),
            params: Default::default(),
            metrics: Vec::new(),
        })
    }

    pub(crate) async fn get_logged_model(&self, model_id: &str) -> Result<LoggedModel, Error> {
        let missing = || Error::LoggedModelNotFound(model_id.to_owned());
        // The id becomes part of a path.
        if !model_id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(missing());
        }
        let route = format!("2.0/mlflow/logged-models/{model_id}");
        let mut answer = match self.get(&route, &[]).await {
            // Servers of 2.x have no logged models.
            Err(Error::ExternalAnswer { status: 404, .. }) => return Err(missing()),
            answer => answer?,
        };
        let stamp = self.stamp_of(Kind::LoggedModel, model_id).await?;
        self.logged_model(take(&mut answer, "/model"), stamp.map(|stamp| stamp.job_id))
    }

    /// The logged models that a job made, oldest first; those that are gone are passed over.
    pub(crate) async fn logged_models_of_job(
        &self,
        job_id: &str,
    ) -> Result<Vec<LoggedModel>, Error> {
        let mut models = Vec::new();
        for stamp in self.stamps_of_job(Kind::LoggedModel, job_id).await? {
            match self.get_logged_model(&stamp.id).await {
                Ok(model) => models.push(model),
                Err(Error::LoggedModelNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(models)
    }

    /// The logged models of a run, newest first.
    pub(crate) async fn logged_models_of_run(
        &self,
        run_id: &str,
    ) -> Result<Vec<LoggedModel>, Error> {
        let run = self.get_run(run_id).await?;
        let fields = json!({
            "experiment_ids": [run.experiment_id],
            "filter": format!("source_run_id = '{}'", run.run_id),
            "order_by": [{ "field_name": "creation_timestamp", "ascending": false }],
        });
        let found = self.post("2.0/mlflow/logged-models/search", &fields).await;
        let mut found = match found {
            Err(Error::ExternalAnswer {
                status: 404 | 405, ..
            }) => return Ok(Vec::new()),
            found => found?,
        };
        let Value::Array(models) = take(&mut found, "/models") else {
            return Ok(Vec::new());
        };
        models
            .into_iter()
            .map(|model| self.logged_model(model, run.job_id.clone()))
            .collect()
    }

    pub(crate) async fn set_logged_model_tags(
        &self,
        model_id: &str,
        tags: &[(String, String)],
    ) -> Result<LoggedModel, Error> {
        let model = self.get_logged_model(model_id).await?;
        let route = format!("2.0/mlflow/logged-models/{}/tags", model.model_id);
        self.patch(&route, &json!({ "tags": key_values(tags) }))
            .await?;
        Ok(model)
    }

    /// How much there is; runs are not counted.
    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        let (mut active_experiments, mut token) = (0, String::new());
        loop {
            let mut fields = vec![("max_results", PAGE), ("view_type", "ACTIVE_ONLY")];
            if !token.is_empty() {
                fields.push(("page_token", &token));
            }
            let page = self.get_for_status("2.0/mlflow/experiments/search", &fields);
            let page = page.await?;
            active_experiments += page["experiments"].as_array().map_or(0, Vec::len) as i64;
            match page["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => break,
            }
        }
        Ok(Counts {
            active_experiments,
            runs: 0,
        })
    }
}

fn key_values(tags: &[(String, String)]) -> Value {
    let tag = |(key, value): &(String, String)| json!({ "key": key, "value": value });
    tags.iter().map(tag).collect()
}
