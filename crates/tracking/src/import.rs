//! Taking over what another MLflow server kept: ids, times and states stay as they were.
//!
//! Each function takes a list and writes it in one transaction. What is here already stays as it
//! is, so an import that was killed is simply run again. Values are not checked as a client's are:
//! the other server took them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Tracking;
use crate::dataset::{Dataset, Direction};
use crate::error::Error;
use crate::experiment::{self, Experiment};
use crate::logged_model::{LoggedModel, LoggedModelMetric};
use crate::metric::Metric;
use crate::run::{LifecycleStage, RunStatus};
use crate::span::Span;
use crate::store::imports;
use crate::trace::Trace;
use crate::trace_link::LinkKind;

/// What became of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Not here before.
    pub new: u64,
    /// Belongs to something that is not here, and was left out.
    pub orphans: u64,
}

/// A run without what it logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRun {
    pub run_id: String,
    pub experiment_id: String,
    pub name: String,
    pub status: RunStatus,
    pub lifecycle_stage: LifecycleStage,
    pub user_id: String,
    /// Epoch milliseconds.
    pub start_time: i64,
    /// Epoch milliseconds.
    pub end_time: Option<i64>,
    /// Epoch milliseconds.
    pub deleted_time: Option<i64>,
    pub artifact_uri: String,
}

/// What a pair of key and value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairKind {
    ExperimentTag,
    Param,
    RunTag,
    LoggedModelParam,
    LoggedModelTag,
    TraceTag,
    TraceMetadata,
    EvaluationDatasetTag,
}

/// A key and value, and the id of what they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedPair {
    pub owner: String,
    pub key: String,
    pub value: String,
}

/// A point of a run's metric.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedMetric {
    pub run_id: String,
    pub metric: Metric,
}

/// A dataset of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDataset {
    pub dataset_id: String,
    pub experiment_id: String,
    pub dataset: Dataset,
}

/// That a run read a dataset; with a tag of this reading, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedInput {
    pub run_id: String,
    pub dataset_id: String,
    pub tag: Option<(String, String)>,
}

/// That a run read or made a logged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModelLink {
    pub run_id: String,
    pub direction: Direction,
    pub model_id: String,
    pub step: i64,
}

/// A span, and the id of its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedSpan {
    pub trace_id: String,
    pub span: Span,
}

/// An assessment of a trace, as the protobuf JSON that clients read (`assessments.proto`).
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedAssessment {
    pub assessment_id: String,
    pub trace_id: String,
    pub message: Map<String, Value>,
    /// Epoch milliseconds.
    pub created_at: i64,
}

/// An evaluation dataset without its records, tags and uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedEvaluationDataset {
    pub dataset_id: String,
    pub name: String,
    pub digest: String,
    /// JSON.
    pub schema: Option<String>,
    /// JSON.
    pub profile: Option<String>,
    /// Epoch milliseconds.
    pub created_time: i64,
    /// Epoch milliseconds.
    pub last_update_time: i64,
    pub created_by: Option<String>,
    pub last_updated_by: Option<String>,
}

/// A record of an evaluation dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedRecord {
    pub dataset_id: String,
    pub record_id: String,
    pub inputs: Map<String, Value>,
    pub outputs: Option<Value>,
    pub expectations: Option<Map<String, Value>>,
    pub tags: Option<Map<String, Value>>,
    pub source: Option<Map<String, Value>>,
    pub source_id: Option<String>,
    /// Epoch milliseconds.
    pub created_time: i64,
    /// Epoch milliseconds.
    pub last_update_time: i64,
    pub created_by: Option<String>,
    pub last_updated_by: Option<String>,
}

/// That an experiment uses an evaluation dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDatasetUse {
    pub dataset_id: String,
    pub experiment_id: String,
}

/// A version of a scorer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedScorer {
    pub experiment_id: String,
    pub name: String,
    pub version: i64,
    pub scorer_id: String,
    pub serialized: String,
    /// Epoch milliseconds.
    pub created_time: i64,
}

/// What a trace is linked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedTraceLink {
    pub trace_id: String,
    pub kind: LinkKind,
    pub target: String,
}

impl Tracking {
    /// The experiments that the same import cannot have made, and that stand where one of these
    /// belongs: they have its id or its name.
    pub async fn experiments_in_the_way(
        &self,
        coming: &[Experiment],
    ) -> Result<Vec<Experiment>, Error> {
        let mut conn = self.db.acquire().await?;
        let mut in_the_way = Vec::new();
        for experiment in coming {
            let id = experiment::parse_id(&experiment.experiment_id)?;
            for found in imports::experiments_like(&mut conn, id, &experiment.name).await? {
                let same = found.experiment_id == experiment.experiment_id
                    && found.creation_time == experiment.creation_time;
                if !same && !imports::is_unused_default(&mut conn, &found).await? {
                    in_the_way.push(found);
                }
            }
        }
        Ok(in_the_way)
    }

    /// Takes experiments over, without their tags. Experiment 0 gives way while it is unused.
    pub async fn import_experiments(&self, experiments: &[Experiment]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let mut taken = Taken::default();
        for experiment in experiments {
            let id = experiment::parse_id(&experiment.experiment_id)?;
            taken.new += imports::experiment(&mut tx, id, experiment).await?;
            db::raise_to(&mut tx, "experiments", id).await?;
        }
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes runs over. One that was still running when it came takes the end that it has now.
    pub async fn import_runs(&self, runs: &[ImportedRun]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::runs(&mut tx, runs).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes params, tags or metadata over.
    pub async fn import_pairs(
        &self,
        kind: PairKind,
        pairs: &[ImportedPair],
    ) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::pairs(&mut tx, kind, pairs).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes points of metrics over; the latest of each key follows from them.
    pub async fn import_metrics(&self, metrics: &[ImportedMetric]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::metrics(&mut tx, metrics).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes datasets over.
    pub async fn import_datasets(&self, datasets: &[ImportedDataset]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::datasets(&mut tx, datasets).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes over which datasets runs read, and the tags of that.
    pub async fn import_inputs(&self, inputs: &[ImportedInput]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::inputs(&mut tx, inputs).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes over which logged models runs read and made.
    pub async fn import_model_links(&self, links: &[ImportedModelLink]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::model_links(&mut tx, links).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes logged models over, without params, tags and metrics.
    pub async fn import_logged_models(&self, models: &[LoggedModel]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::logged_models(&mut tx, models).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes over what was measured of logged models; each value with its model's id.
    pub async fn import_model_metrics(
        &self,
        metrics: &[(String, LoggedModelMetric)],
    ) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::model_metrics(&mut tx, metrics).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes traces over, without tags and metadata.
    pub async fn import_traces(&self, traces: &[Trace]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::traces(&mut tx, traces).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes spans over.
    pub async fn import_spans(&self, spans: &[ImportedSpan]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::spans(&mut tx, spans).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes evaluation datasets over.
    pub async fn import_evaluation_datasets(
        &self,
        datasets: &[ImportedEvaluationDataset],
    ) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::evaluation_datasets(&mut tx, datasets).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes the records of evaluation datasets over.
    pub async fn import_evaluation_records(
        &self,
        records: &[ImportedRecord],
    ) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::records(&mut tx, records).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes over which experiments use which evaluation datasets.
    pub async fn import_dataset_uses(&self, uses: &[ImportedDatasetUse]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::dataset_uses(&mut tx, uses).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes versions of scorers over.
    pub async fn import_scorers(&self, scorers: &[ImportedScorer]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::scorers(&mut tx, scorers).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes over what traces are linked to.
    pub async fn import_trace_links(&self, links: &[ImportedTraceLink]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::trace_links(&mut tx, links).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Takes assessments over.
    pub async fn import_assessments(
        &self,
        assessments: &[ImportedAssessment],
    ) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let taken = imports::assessments(&mut tx, assessments).await?;
        tx.commit().await?;
        Ok(taken)
    }
}

/// The ids of a list, each once.
pub(crate) fn ids<'l, T>(list: &'l [T], id: impl Fn(&'l T) -> &'l str) -> BTreeSet<&'l str> {
    list.iter().map(id).collect()
}
