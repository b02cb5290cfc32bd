//! A run with all that it logged.

use crate::Tracking;
use crate::dataset::DatasetInput;
use crate::error::Error;
use crate::metric::Metric;
use crate::run::Run;
use crate::store::records;

/// A run with its latest metrics, params, tags, inputs and outputs, each in the order of its key.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    pub run: Run,
    pub metrics: Vec<Metric>,
    pub params: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
    pub datasets: Vec<DatasetInput>,
    /// Ids of the logged models that it read.
    pub model_inputs: Vec<String>,
    /// Ids of the logged models that it made, and at which step.
    pub model_outputs: Vec<(String, i64)>,
}

impl RunRecord {
    /// A run that logged nothing.
    pub(crate) fn empty(run: Run) -> Self {
        Self {
            run,
            metrics: Vec::new(),
            params: Vec::new(),
            tags: Vec::new(),
            datasets: Vec::new(),
            model_inputs: Vec::new(),
            model_outputs: Vec::new(),
        }
    }
}

impl Tracking {
    /// The run with this id and all that it logged, deleted ones included.
    pub async fn get_run_record(&self, run_id: &str) -> Result<RunRecord, Error> {
        let mut conn = self.db.acquire().await?;
        let found = records::find(&mut conn, run_id).await?;
        found.ok_or_else(|| Error::RunNotFound(run_id.to_owned()))
    }

    /// These runs with all that they logged.
    pub(crate) async fn records(&self, runs: &[Run]) -> Result<Vec<RunRecord>, Error> {
        let mut records: Vec<_> = runs.iter().cloned().map(RunRecord::empty).collect();
        let mut conn = self.db.acquire().await?;
        records::fill(&mut conn, &mut records).await?;
        Ok(records)
    }
}
