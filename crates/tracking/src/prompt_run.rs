//! Runs of MLflow's page for prompt engineering: a prompt that was tried, and what came back.

use axum::body::Body;
use serde_json::json;
use web::Timestamp;

use crate::batch::Batch;
use crate::error::Error;
use crate::location::Location;
use crate::run::{NewRun, Run, RunStatus, RunUpdate};
use crate::{RunRecord, Tracking};

/// The table that the page shows, in the run's artifacts and in the tag that names it.
const TABLE: &str = "eval_results_table.json";

/// A prompt that was tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct PromptRun {
    pub(crate) run: NewRun,
    pub(crate) template: String,
    /// What stood in the template's places.
    pub(crate) inputs: Vec<(String, String)>,
    /// The model that was asked, with its parameters.
    pub(crate) route: String,
    pub(crate) parameters: Vec<(String, String)>,
    /// The whole prompt, and the answer.
    pub(crate) prompt: String,
    pub(crate) output: Option<String>,
    /// What came with the answer, such as its latency.
    pub(crate) output_parameters: Vec<(String, String)>,
}

impl PromptRun {
    fn table(&self) -> String {
        let prompt = ("prompt".to_owned(), self.prompt.clone());
        let output = ("output".to_owned(), self.output.clone().unwrap_or_default());
        let columns = self.inputs.iter().chain([&prompt, &output]);
        let columns = columns.chain(&self.output_parameters);
        let (names, values): (Vec<&String>, Vec<&String>) =
            columns.map(|(name, value)| (name, value)).unzip();
        json!({"columns": names, "data": [values]}).to_string()
    }

    fn batch(&self) -> Batch {
        let mut params = self.parameters.clone();
        params.push(("model_route".to_owned(), self.route.clone()));
        params.push(("prompt_template".to_owned(), self.template.clone()));
        let artifacts = format!(r#"[{{"path": "{TABLE}", "type": "table"}}]"#);
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Batch {
            params,
            tags: vec![
                tag("mlflow.loggedArtifacts", &artifacts),
                tag("mlflow.runSourceType", "PROMPT_ENGINEERING"),
            ],
            ..Batch::default()
        }
    }
}

impl Tracking {
    /// Keeps a prompt that was tried as a finished run.
    pub(crate) async fn create_prompt_run(&self, prompt: PromptRun) -> Result<RunRecord, Error> {
        let run = self.create_run(prompt.run.clone()).await?;
        let filled = self.fill_prompt_run(&run, &prompt).await;
        let status = match &filled {
            Ok(()) => RunStatus::Finished,
            Err(_) => RunStatus::Failed,
        };
        let end = RunUpdate {
            status: Some(status),
            end_time: Some(Timestamp::now().0),
            name: None,
        };
        let job_id = run.job_id.as_deref();
        let ended = self.update_run(&run.run_id, end, job_id).await;
        filled?;
        ended?;
        self.get_run_record(&run.run_id).await
    }

    async fn fill_prompt_run(&self, run: &Run, prompt: &PromptRun) -> Result<(), Error> {
        let batch = prompt.batch();
        let job_id = run.job_id.as_deref();
        self.log_batch(&run.run_id, batch, job_id).await?;
        let table = Location::parse_uri(&run.artifact_uri)?.join(TABLE)?;
        let content = Body::from(prompt.table()).into_data_stream();
        self.artifacts().put(&table, content).await.map(|_| ())
    }
}
