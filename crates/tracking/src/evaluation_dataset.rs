//! Evaluation datasets: named sets of records that applications are judged by, and the
//! experiments that use them (`datasets.proto`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::store::{evaluation_datasets, experiments};
use crate::{experiment, id, key};

/// The most characters of each part (`SqlEvaluationDataset`, `SqlEvaluationDatasetTag`).
const MAX_NAME_CHARS: usize = 255;
const MAX_TAG_KEY_CHARS: usize = 255;
const MAX_TAG_VALUE_CHARS: usize = 5_000;

/// The tag that names who made or changed a dataset.
pub(crate) const USER_TAG: &str = "mlflow.user";

/// An evaluation dataset without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvaluationDataset {
    pub(crate) dataset_id: String,
    pub(crate) name: String,
    /// Another one after every change of its records.
    pub(crate) digest: String,
    /// The fields of its records and their types, as JSON.
    pub(crate) schema: Option<String>,
    /// How many records there are, as JSON.
    pub(crate) profile: Option<String>,
    pub(crate) created_time: i64,
    pub(crate) last_update_time: i64,
    pub(crate) created_by: Option<String>,
    pub(crate) last_updated_by: Option<String>,
    /// The job that made it.
    pub(crate) job_id: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) experiment_ids: Vec<String>,
}

/// What a new evaluation dataset is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewEvaluationDataset {
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) experiment_ids: Vec<String>,
    pub(crate) job_id: Option<String>,
}

pub(crate) fn not_found(dataset_id: &str) -> Error {
    Error::NotFound(format!(
        "Evaluation dataset with id '{dataset_id}' not found"
    ))
}

/// Reads tags as clients send them: a JSON object in a text. A null is no tag.
pub(crate) fn read_tags(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        Error::field("tags", text, format!("it must be a JSON object: {error}"))
    })?;
    let mut tags = BTreeMap::new();
    for (tag, value) in object {
        let value = match value {
            Value::Null => continue,
            Value::String(value) => value,
            other => other.to_string(),
        };
        if tag.is_empty() {
            return Err(Error::Missing("tags.key".to_owned()));
        }
        key::check_not_reserved(&tag)?;
        key::check_length(&tag, MAX_TAG_KEY_CHARS, "tags.key")?;
        key::check_length(&value, MAX_TAG_VALUE_CHARS, "tags.value")?;
        tags.insert(tag, value);
    }
    Ok(tags)
}

/// The digest of a dataset that changed at `now`.
pub(crate) fn digest(name: &str, now: i64) -> String {
    let hash = Sha256::digest(format!("{name}:{now}"));
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_ids(experiment_ids: &[String]) -> Result<Vec<i64>, Error> {
    let ids = experiment_ids.iter().map(|id| experiment::parse_id(id));
    ids.collect()
}

async fn check_exist(conn: &mut db::Conn, experiments: &[i64]) -> Result<(), Error> {
    for id in experiments {
        if experiments::location_of_active(conn, *id).await?.is_none() {
            return Err(experiment::not_found(*id));
        }
    }
    Ok(())
}

/// The dataset that a caller changes. No other change of it runs until the transaction ends.
pub(crate) async fn find_writable(
    tx: &mut db::Conn,
    dataset_id: &str,
    job_id: Option<&str>,
    now: i64,
) -> Result<EvaluationDataset, Error> {
    evaluation_datasets::touch(tx, dataset_id, now).await?;
    let found = evaluation_datasets::find(tx, dataset_id).await?;
    let dataset = found.ok_or_else(|| not_found(dataset_id))?;
    match job_id {
        Some(job_id) if dataset.job_id.as_deref() != Some(job_id) => Err(Error::NotOwned {
            what: format!("evaluation dataset {dataset_id}"),
            job_id: job_id.to_owned(),
        }),
        _ => Ok(dataset),
    }
}

impl Tracking {
    /// Makes an evaluation dataset without records.
    pub(crate) async fn create_evaluation_dataset(
        &self,
        new: NewEvaluationDataset,
    ) -> Result<EvaluationDataset, Error> {
        key::check_length(&new.name, MAX_NAME_CHARS, "name")?;
        let experiments = parse_ids(&new.experiment_ids)?;
        let now = Timestamp::now().0;
        let user = new.tags.get(USER_TAG).cloned();
        let dataset = EvaluationDataset {
            dataset_id: format!("d-{}", id::random_hex()?),
            digest: digest(&new.name, now),
            name: new.name,
            schema: None,
            profile: None,
            created_time: now,
            last_update_time: now,
            created_by: user.clone(),
            last_updated_by: user,
            job_id: new.job_id,
            tags: new.tags,
            experiment_ids: new.experiment_ids,
        };
        let mut tx = self.db.begin().await?;
        check_exist(&mut tx, &experiments).await?;
        evaluation_datasets::insert(&mut tx, &dataset).await?;
        evaluation_datasets::set_tags(&mut tx, &dataset.dataset_id, &dataset.tags).await?;
        evaluation_datasets::link(&mut tx, &dataset.dataset_id, &experiments).await?;
        tx.commit().await?;
        Ok(dataset)
    }

    /// The evaluation dataset with this id.
    pub(crate) async fn get_evaluation_dataset(
        &self,
        dataset_id: &str,
    ) -> Result<EvaluationDataset, Error> {
        let mut conn = self.db.acquire().await?;
        let found = evaluation_datasets::find(&mut conn, dataset_id).await?;
        found.ok_or_else(|| not_found(dataset_id))
    }

    /// Deletes an evaluation dataset with its records; one that is not there is fine.
    pub(crate) async fn delete_evaluation_dataset(
        &self,
        dataset_id: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        match find_writable(&mut tx, dataset_id, job_id, Timestamp::now().0).await {
            Err(Error::NotFound(_)) => return Ok(()),
            found => found?,
        };
        evaluation_datasets::delete(&mut tx, dataset_id).await?;
        Ok(tx.commit().await?)
    }

    /// Sets tags; the others stay.
    pub(crate) async fn set_evaluation_dataset_tags(
        &self,
        dataset_id: &str,
        tags: &BTreeMap<String, String>,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        find_writable(&mut tx, dataset_id, job_id, Timestamp::now().0).await?;
        evaluation_datasets::set_tags(&mut tx, dataset_id, tags).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a tag; one that is not there is fine.
    pub(crate) async fn delete_evaluation_dataset_tag(
        &self,
        dataset_id: &str,
        tag: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        find_writable(&mut tx, dataset_id, job_id, Timestamp::now().0).await?;
        evaluation_datasets::delete_tag(&mut tx, dataset_id, tag).await?;
        Ok(tx.commit().await?)
    }

    /// Makes experiments use a dataset, those too that do already.
    pub(crate) async fn link_evaluation_dataset(
        &self,
        dataset_id: &str,
        experiment_ids: &[String],
        job_id: Option<&str>,
    ) -> Result<EvaluationDataset, Error> {
        let experiments = parse_ids(experiment_ids)?;
        let mut tx = self.db.begin().await?;
        find_writable(&mut tx, dataset_id, job_id, Timestamp::now().0).await?;
        check_exist(&mut tx, &experiments).await?;
        evaluation_datasets::link(&mut tx, dataset_id, &experiments).await?;
        let found = evaluation_datasets::find(&mut tx, dataset_id).await?;
        tx.commit().await?;
        found.ok_or_else(|| not_found(dataset_id))
    }

    /// Ends the use of a dataset by experiments, also of those that do not use it.
    pub(crate) async fn unlink_evaluation_dataset(
        &self,
        dataset_id: &str,
        experiment_ids: &[String],
        job_id: Option<&str>,
    ) -> Result<EvaluationDataset, Error> {
        let experiments = parse_ids(experiment_ids)?;
        let mut tx = self.db.begin().await?;
        find_writable(&mut tx, dataset_id, job_id, Timestamp::now().0).await?;
        evaluation_datasets::unlink(&mut tx, dataset_id, &experiments).await?;
        let found = evaluation_datasets::find(&mut tx, dataset_id).await?;
        tx.commit().await?;
        found.ok_or_else(|| not_found(dataset_id))
    }
}
