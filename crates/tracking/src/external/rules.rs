//! What a job may write on an external server: what it made itself. What is not named here is
//! refused.

use axum::Json;
use axum::body::Body;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use web::Identity;

use super::forward::{JobWrite, check_names};
use super::{External, Kind, Stamp, is_missing};
use crate::Tracking;
use crate::error::Error;
use crate::location::Location;
use crate::owner::Owner;
use crate::run::JOB_TAG;
use crate::search::traces::RUN_KEY;

/// What a request that writes is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write<'p> {
    /// Makes something.
    Create(Kind),
    /// Changes what these fields of the body name.
    Fields(Kind, &'static [&'static str]),
    /// Says which logged models a run made.
    Outputs,
    /// Changes what the path names.
    Named(Kind, &'p str),
    /// Stores or removes the file at this path.
    File(String),
    /// Sends a file in parts into the folder at this path; its name stands in the body.
    Parts(String),
    /// Has an address signed that a file of a run is sent to; its place stands in the body.
    Signed,
    /// Stores a file of a run; its place stands in the query.
    FileOfRun,
    /// Removes a version of a scorer, or all of them.
    Scorer,
    /// Changes an experiment's tags.
    OfExperiment,
    /// Removes traces.
    Traces,
}

/// The names of the run in a body.
const RUN: &[&str] = &["run_id", "run_uuid"];

/// What a request is about, by its path below `/api/` or `/ajax-api/`, each name decoded.
pub(crate) fn write_of<'p>(method: &Method, path: &'p [&'p str]) -> Option<Write<'p>> {
    let (post, patch) = (method == Method::POST, method == Method::PATCH);
    Some(match path {
        ["2.0", "mlflow-artifacts", "artifacts", file @ ..] => Write::File(file.join("/")),
        ["2.0", "mlflow-artifacts", "mpu", _, folder @ ..] => Write::Parts(folder.join("/")),
        ["2.0", "mlflow", "artifacts", "presigned-upload-url"] if post => Write::Signed,
        ["2.0", "mlflow", "upload-artifact"] if post => Write::FileOfRun,
        ["2.0", "mlflow", "runs", "create" | "create-promptlab-run"] if post => {
            Write::Create(Kind::Run)
        }
        ["2.0", "mlflow", "runs", "outputs"] if post => Write::Outputs,
        ["2.0", "mlflow", "runs", _] if post => Write::Fields(Kind::Run, RUN),
        ["2.0", "mlflow", "experiments", "create"] if post => Write::Create(Kind::Experiment),
        ["2.0", "mlflow", "experiments", "update"] if post => {
            Write::Fields(Kind::Experiment, &["experiment_id"])
        }
        [
            "2.0",
            "mlflow",
            "experiments",
            "set-experiment-tag" | "delete-experiment-tag",
        ] if post => Write::OfExperiment,
        ["2.0", "mlflow", "logged-models"] if post => Write::Create(Kind::LoggedModel),
        ["2.0", "mlflow", "logged-models", id, ..] => Write::Named(Kind::LoggedModel, id),
        ["2.0" | "3.0", "mlflow", "traces"] if post => Write::Create(Kind::Trace),
        ["2.0" | "3.0", "mlflow", "traces", "link-to-run"] if post => {
            Write::Fields(Kind::Run, &["run_id"])
        }
        ["2.0" | "3.0", "mlflow", "traces", "link-prompts"] if post => {
            Write::Fields(Kind::Trace, &["trace_id"])
        }
        ["2.0" | "3.0", "mlflow", "traces", "delete-traces"] if post => Write::Traces,
        ["2.0" | "3.0", "mlflow", "traces", id] if patch => Write::Named(Kind::Trace, id),
        [
            "2.0" | "3.0",
            "mlflow",
            "traces",
            id,
            "tags" | "assessments",
            ..,
        ] => Write::Named(Kind::Trace, id),
        ["3.0", "mlflow", "datasets", "create"] if post => Write::Create(Kind::EvaluationDataset),
        ["3.0", "mlflow", "datasets", id, ..] => Write::Named(Kind::EvaluationDataset, id),
        ["3.0", "mlflow", "scorers", "register"] if post => Write::Create(Kind::Scorer),
        ["3.0", "mlflow", "scorers", "delete"] => Write::Scorer,
        _ => return None,
    })
}

impl External {
    /// Notes who made what a good answer tells of.
    ///
    /// # Errors
    /// When it cannot be noted: then nobody may be told that it was made.
    pub async fn create(
        &self,
        kind: Kind,
        job_id: &str,
        write: JobWrite,
    ) -> Result<Response, Error> {
        let (head, body) = self.forward_write(write).await?;
        if head.status.is_success() {
            let answer = self.upstream.json(head.status, &body)?;
            let (id, artifact_uri) = made(kind, &answer);
            if !id.is_empty() {
                let job_id = job_id.to_owned();
                let stamp = Stamp {
                    id,
                    job_id,
                    artifact_uri,
                };
                self.stamp(kind, &stamp).await?;
            }
        }
        Ok(Response::from_parts(head, Body::from(body)))
    }

    /// Passes on what a job writes, where that is its own.
    pub(crate) async fn write_as_job(
        &self,
        tracking: &Tracking,
        caller: &Identity,
        job_id: &str,
        write: Write<'_>,
        request: axum::extract::Request,
    ) -> Result<Response, Error> {
        let mut read = match write {
            // Whether the place is the job's own has been asked.
            Write::File(_) | Write::FileOfRun => return self.forward(request).await,
            // Clients know these messages by their beginnings, and send the file in one request.
            Write::Parts(_) => {
                let message =
                    "Multipart upload is not supported for the current artifact repository";
                return Err(Error::NotImplemented(message.to_owned()));
            }
            Write::Signed => {
                let message =
                    "Presigned URLs are not supported for the current artifact repository";
                return Err(Error::NotImplemented(message.to_owned()));
            }
            _ => JobWrite::read(request).await?,
        };
        if let Write::Create(kind) = write {
            self.check_create(caller, kind, &read).await?;
            if kind == Kind::Scorer {
                check_experiment(tracking, job_id, &read).await?;
            }
            if matches!(kind, Kind::Run | Kind::LoggedModel) {
                read.tag(JOB_TAG, job_id);
            }
            return self.create(kind, job_id, read).await;
        }
        if write == Write::Traces && !self.choose_traces(job_id, &mut read).await? {
            return Ok(Json(json!({ "traces_deleted": 0 })).into_response());
        }
        if write == Write::OfExperiment {
            check_experiment(tracking, job_id, &read).await?;
        }
        self.check_change(caller, &write, &read).await?;
        let (head, body) = self.forward_write(read).await?;
        Ok(Response::from_parts(head, Body::from(body)))
    }

    /// Refuses a change of what a job did not make.
    async fn check_change(
        &self,
        caller: &Identity,
        write: &Write<'_>,
        read: &JobWrite,
    ) -> Result<(), Error> {
        match write {
            Write::Fields(kind, names) => self.check_fields(caller, *kind, names, read).await,
            Write::Outputs => {
                self.check_fields(caller, Kind::Run, RUN, read).await?;
                let models = read.fields.get("models").and_then(Value::as_array);
                for model in models.into_iter().flatten() {
                    let id = text(&model["model_id"]);
                    self.check_made(caller, Kind::LoggedModel, &id).await?;
                }
                Ok(())
            }
            Write::Named(kind, id) => {
                self.check_made(caller, *kind, id).await?;
                self.check_source_run(caller, read).await
            }
            Write::Scorer => self.check_made_scorer(caller, read).await,
            _ => Ok(()),
        }
    }

    async fn check_fields(
        &self,
        caller: &Identity,
        kind: Kind,
        names: &[&str],
        read: &JobWrite,
    ) -> Result<(), Error> {
        let ids: Vec<String> = names.iter().map(|name| read.text(name)).collect();
        if ids.iter().all(String::is_empty) {
            return Err(Error::Missing(names[0].to_owned()));
        }
        for id in ids.iter().filter(|id| !id.is_empty()) {
            self.check_made(caller, kind, id).await?;
        }
        Ok(())
    }

    /// Refuses a trace that says that a run of others made it.
    async fn check_source_run(&self, caller: &Identity, read: &JobWrite) -> Result<(), Error> {
        let of_trace = read.fields.get("trace").map(|trace| {
            let metadata = &trace["trace_info"]["trace_metadata"];
            text(&metadata[RUN_KEY])
        });
        let listed = read
            .fields
            .get("request_metadata")
            .and_then(Value::as_array);
        let listed = listed.into_iter().flatten();
        let listed = listed.filter(|pair| pair["key"] == RUN_KEY);
        let runs = listed.map(|pair| text(&pair["value"])).chain(of_trace);
        for run_id in runs.filter(|id| !id.is_empty()) {
            self.check_made(caller, Kind::Run, &run_id).await?;
        }
        Ok(())
    }

    /// A logged model comes from a run of the same job, and a trace is not one that is there.
    async fn check_create(
        &self,
        caller: &Identity,
        kind: Kind,
        write: &JobWrite,
    ) -> Result<(), Error> {
        if kind == Kind::LoggedModel {
            let run_id = write.text("source_run_id");
            return match run_id.is_empty() {
                true => Ok(()),
                false => self.check_made(caller, Kind::Run, &run_id).await,
            };
        }
        if kind != Kind::Trace {
            return Ok(());
        }
        self.check_source_run(caller, write).await?;
        let Some(trace) = write.fields.get("trace") else {
            return Ok(());
        };
        let info = &trace["trace_info"];
        for object in [trace, info] {
            object.as_object().map_or(Ok(()), check_names)?;
        }
        let trace_id = info["trace_id"].as_str().unwrap_or_default();
        if trace_id.is_empty() {
            return Err(Error::Missing("trace.trace_info.trace_id".to_owned()));
        }
        self.check_new_trace(caller, trace_id).await
    }

    /// Refuses a trace that is there already and that this job did not make.
    pub(crate) async fn check_new_trace(
        &self,
        caller: &Identity,
        trace_id: &str,
    ) -> Result<(), Error> {
        if self.stamp_of(Kind::Trace, trace_id).await?.is_some() {
            return self.check_made(caller, Kind::Trace, trace_id).await;
        }
        let fields = [("trace_id", trace_id)];
        match self.get("3.0/mlflow/traces/get", &fields).await {
            Ok(_) => self.check_made(caller, Kind::Trace, trace_id).await,
            Err(error) if is_missing(&error) => Ok(()),
            // Older servers have no such route.
            Err(Error::ExternalAnswer {
                status: 404 | 405, ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A job removes those versions of a scorer that it registered itself.
    async fn check_made_scorer(&self, caller: &Identity, write: &JobWrite) -> Result<(), Error> {
        let (experiment_id, name) = (write.text("experiment_id"), write.text("name"));
        let versions = match write.text("version") {
            version if !version.is_empty() => vec![version],
            _ => {
                let fields = [("experiment_id", experiment_id.as_str()), ("name", &name)];
                let listed = self.get("3.0/mlflow/scorers/versions", &fields).await?;
                let listed = listed["scorers"].as_array().cloned().unwrap_or_default();
                let version = |scorer: &Value| text(&scorer["scorer_version"]);
                listed.iter().map(version).collect()
            }
        };
        for version in versions {
            let id = format!("{experiment_id}/{name}/{version}");
            self.check_made(caller, Kind::Scorer, &id).await?;
        }
        Ok(())
    }

    /// Refuses a place outside of what a job made itself.
    pub(crate) async fn check_made_file(
        &self,
        job_id: &str,
        place: &Location,
    ) -> Result<(), Error> {
        let stamp = match Owner::of(place) {
            Some(Owner::Run(id)) => self.stamp_of(Kind::Run, &id).await?,
            Some(Owner::LoggedModel(id)) => self.stamp_of(Kind::LoggedModel, &id).await?,
            Some(Owner::Trace(id)) => self.stamp_of(Kind::Trace, &id).await?,
            None => None,
        };
        let inside =
            |root: &str| Location::parse_uri(root).is_ok_and(|root| place.is_within(&root));
        match stamp {
            Some(stamp)
                if stamp.job_id == job_id && stamp.artifact_uri.as_deref().is_some_and(inside) =>
            {
                Ok(())
            }
            _ => Err(Error::NotOwned {
                what: format!("the artifact {:?}", place.key()),
                job_id: job_id.to_owned(),
            }),
        }
    }
}

/// Refuses a change of an experiment of others.
async fn check_experiment(tracking: &Tracking, job_id: &str, read: &JobWrite) -> Result<(), Error> {
    let experiment_id = read.text("experiment_id");
    tracking
        .check_own_experiment(&experiment_id, Some(job_id))
        .await
}

/// A field of an answer that is text, or a number in its place.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The id and the place of what an answer says was made.
fn made(kind: Kind, answer: &Value) -> (String, Option<String>) {
    let uri = |value: &Value| value.as_str().map(str::to_owned);
    match kind {
        Kind::Experiment => (text(&answer["experiment_id"]), None),
        Kind::Run => {
            let info = &answer["run"]["info"];
            (text(&info["run_id"]), uri(&info["artifact_uri"]))
        }
        Kind::LoggedModel => {
            let info = &answer["model"]["info"];
            (text(&info["model_id"]), uri(&info["artifact_uri"]))
        }
        Kind::Trace => made_trace(answer),
        Kind::RegisteredModel => (text(&answer["registered_model"]["name"]), None),
        Kind::ModelVersion => {
            let version = &answer["model_version"];
            let id = format!("{}/{}", text(&version["name"]), text(&version["version"]));
            (id, None)
        }
        Kind::EvaluationDataset => (text(&answer["dataset"]["dataset_id"]), None),
        Kind::Scorer => {
            let names = ["experiment_id", "name", "version"].map(|name| text(&answer[name]));
            (names.join("/"), None)
        }
    }
}

/// Traces of 3.0 have a map of tags, those of 2.0 a list.
fn made_trace(answer: &Value) -> (String, Option<String>) {
    const PLACE: &str = "mlflow.artifactLocation";
    let (info, id) = match answer.get("trace") {
        Some(trace) => (&trace["trace_info"], "trace_id"),
        None => (&answer["trace_info"], "request_id"),
    };
    let listed = || {
        let tags = info["tags"].as_array()?;
        let tag = tags.iter().find(|tag| tag["key"] == PLACE)?;
        tag["value"].as_str()
    };
    let place = info["tags"][PLACE].as_str().or_else(listed);
    let id = info[id].as_str().unwrap_or_default();
    (id.to_owned(), place.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_nothing_a_job_may_do() {
        let post = Method::POST;
        let of = |path: &[&str]| format!("{:?}", write_of(&post, path));
        assert_eq!(
            of(&["2.0", "mlflow", "runs", "create"]),
            "Some(Create(Run))"
        );
        assert!(of(&["2.0", "mlflow", "runs", "log-batch"]).contains("Fields(Run"));
        assert_eq!(
            of(&["3.0", "mlflow", "traces", "delete-traces"]),
            "Some(Traces)"
        );
        for path in [
            &["2.0", "mlflow", "gateway", "secrets"][..],
            &["3.0", "mlflow", "issues", "create"],
            &["2.0", "mlflow", "runs"],
            &[],
        ] {
            assert_eq!(of(path), "None", "{path:?}");
        }
    }
}
