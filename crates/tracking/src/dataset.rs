//! Datasets and logged models that runs read, and logged models that they made.

use crate::Tracking;
use crate::error::Error;
use crate::run::find_writable;
use crate::store::datasets;
use crate::{experiment, id, key, logged_model};

/// The most characters of each part (`mlflow/utils/validation.py`).
const MAX_NAME_CHARS: usize = 500;
const MAX_DIGEST_CHARS: usize = 36;
const MAX_SOURCE_CHARS: usize = 65_535;
const MAX_SCHEMA_CHARS: usize = 1_048_575;
const MAX_PROFILE_CHARS: usize = 16_777_215;
const MAX_TAG_KEY_CHARS: usize = 255;
const MAX_TAG_VALUE_CHARS: usize = 500;

/// The most experiments and answers of a search for datasets.
const MAX_EXPERIMENTS: usize = 20;
const MAX_SUMMARIES: i64 = 1_000;

/// A dataset, known by its name and digest within an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub digest: String,
    pub source_type: String,
    pub source: String,
    pub schema: Option<String>,
    pub profile: Option<String>,
}

/// A dataset that a run read, with tags such as `mlflow.data.context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInput {
    pub dataset: Dataset,
    pub tags: Vec<(String, String)>,
}

/// A dataset as the list of an experiment's datasets shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatasetSummary {
    pub(crate) experiment_id: String,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) context: Option<String>,
}

/// Whether a run read a logged model or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Input,
    Output,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl DatasetInput {
    fn check(&self, index: usize) -> Result<(), Error> {
        let dataset = &self.dataset;
        let part = |name: &str| format!("datasets[{index}].dataset.{name}");
        for (text, name) in [
            (&dataset.name, "name"),
            (&dataset.digest, "digest"),
            (&dataset.source_type, "source_type"),
            (&dataset.source, "source"),
        ] {
            if text.is_empty() {
                return Err(Error::Missing(part(name)));
            }
        }
        key::check_length(&dataset.name, MAX_NAME_CHARS, &part("name"))?;
        key::check_length(&dataset.digest, MAX_DIGEST_CHARS, &part("digest"))?;
        key::check_length(&dataset.source, MAX_SOURCE_CHARS, &part("source"))?;
        let schema = dataset.schema.as_deref().unwrap_or_default();
        key::check_length(schema, MAX_SCHEMA_CHARS, &part("schema"))?;
        let profile = dataset.profile.as_deref().unwrap_or_default();
        key::check_length(profile, MAX_PROFILE_CHARS, &part("profile"))?;
        for (place, (tag, value)) in self.tags.iter().enumerate() {
            let tag_part = |name: &str| format!("datasets[{index}].tags[{place}].{name}");
            key::check_length(tag, MAX_TAG_KEY_CHARS, &tag_part("key"))?;
            key::check_length(value, MAX_TAG_VALUE_CHARS, &tag_part("value"))?;
        }
        Ok(())
    }
}

impl Tracking {
    /// Notes the datasets and logged models that an active run read.
    pub async fn log_inputs(
        &self,
        run_id: &str,
        inputs: &[DatasetInput],
        model_ids: &[String],
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        for (index, input) in inputs.iter().enumerate() {
            input.check(index)?;
        }
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, job_id).await?;
        let experiment_id = experiment::parse_id(&run.experiment_id)?;
        for (position, input) in inputs.iter().enumerate() {
            let new_id = id::random_hex()?;
            let dataset_id =
                datasets::upsert(&mut tx, experiment_id, &new_id, &input.dataset).await?;
            datasets::link(&mut tx, run.row, &dataset_id, position as i64).await?;
            datasets::set_tags(&mut tx, run.row, &dataset_id, &input.tags).await?;
        }
        for model_id in model_ids {
            datasets::link_model(&mut tx, run.row, Direction::Input, model_id, 0).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Notes the logged models that an active run made, with their steps; a job's run made none of
    /// others.
    pub async fn log_outputs(
        &self,
        run_id: &str,
        models: &[(String, i64)],
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, job_id).await?;
        for (model_id, step) in models {
            if job_id.is_some() {
                logged_model::check_made_by(&mut tx, model_id, job_id).await?;
            }
            datasets::link_model(&mut tx, run.row, Direction::Output, model_id, *step).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The datasets that runs of these experiments read.
    pub(crate) async fn search_datasets(
        &self,
        experiment_ids: &[String],
    ) -> Result<Vec<DatasetSummary>, Error> {
        if experiment_ids.is_empty() {
            return Err(Error::Invalid(
                "SearchDatasets request must specify at least one experiment_id.".to_owned(),
            ));
        }
        if experiment_ids.len() > MAX_EXPERIMENTS {
            return Err(Error::Invalid(format!(
                "SearchDatasets request cannot specify more than {MAX_EXPERIMENTS} experiment_ids. Received {} experiment_ids.",
                experiment_ids.len()
            )));
        }
        let ids = experiment_ids.iter().map(|id| experiment::parse_id(id));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        let mut conn = self.db.acquire().await?;
        Ok(datasets::summaries(&mut conn, &ids, MAX_SUMMARIES).await?)
    }
}
