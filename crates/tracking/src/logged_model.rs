//! Logged models: what `log_model` makes from MLflow 3 on, with params, tags and metrics of its own.

use std::collections::BTreeMap;

use web::{Identity, Timestamp};

use crate::Tracking;
use crate::error::Error;
use crate::experiment;
use crate::id;
use crate::key;
use crate::owner::check_owner;
use crate::page;
use crate::run::LifecycleStage;
use crate::store::logged_model_search::{self, Search};
use crate::store::{experiments, logged_models, runs};

/// The most models on one page.
const MAX_PAGE: i64 = 5_000;

/// The models on a page when the request does not say
/// (`SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT`).
const DEFAULT_PAGE: i64 = 100;

/// A logged model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModel {
    /// `m-` and 32 hexadecimal digits.
    pub model_id: String,
    pub experiment_id: String,
    pub name: String,
    /// Where its artifacts are.
    pub artifact_uri: String,
    /// Epoch milliseconds.
    pub creation_time: i64,
    /// Epoch milliseconds.
    pub last_update_time: i64,
    pub status: LoggedModelStatus,
    pub status_message: Option<String>,
    pub lifecycle_stage: LifecycleStage,
    pub model_type: Option<String>,
    /// The run that logged it.
    pub source_run_id: Option<String>,
    /// The job that made it.
    pub job_id: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub params: BTreeMap<String, String>,
    pub metrics: Vec<LoggedModelMetric>,
}

/// Whether a logged model has all its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedModelStatus {
    Pending,
    Ready,
    Failed,
}

/// A value that a run measured of a logged model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModelMetric {
    pub key: String,
    pub value: f64,
    /// Epoch milliseconds.
    pub timestamp: i64,
    pub step: i64,
    pub run_id: String,
    /// Empty when it was measured on no dataset.
    pub dataset_name: String,
    /// Empty when it was measured on no dataset.
    pub dataset_digest: String,
}

/// What a new logged model is made of.
#[derive(Debug, Clone, Default)]
pub struct NewLoggedModel {
    pub experiment_id: String,
    /// Absent: a random name.
    pub name: Option<String>,
    pub model_type: Option<String>,
    pub source_run_id: Option<String>,
    pub params: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
}

/// What to search logged models for.
#[derive(Debug, Clone, Default)]
pub struct SearchLoggedModels {
    pub experiment_ids: Vec<String>,
    pub filter: String,
    /// Only values measured on one of these, by name and digest.
    pub datasets: Vec<(String, Option<String>)>,
    pub order_by: Vec<OrderBy>,
    pub max_results: Option<i64>,
    pub page_token: Option<String>,
}

/// One key of an order of logged models.
#[derive(Debug, Clone, Default)]
pub struct OrderBy {
    /// An attribute, or `metrics.NAME`.
    pub field_name: String,
    pub ascending: bool,
    /// Only values measured on this dataset.
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

impl LoggedModelStatus {
    /// MLflow's word (`service.proto`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "LOGGED_MODEL_PENDING",
            Self::Ready => "LOGGED_MODEL_READY",
            Self::Failed => "LOGGED_MODEL_UPLOAD_FAILED",
        }
    }

    /// Reads MLflow's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Ready, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Reads the enum's number in `service.proto`.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Pending,
            2 => Self::Ready,
            3 => Self::Failed,
            _ => return None,
        })
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Err(Error::Invalid(format!(
            "Invalid model name ({name:?}) provided. Model name must be a non-empty string and \
             cannot contain the following characters: / : . % \" '"
        )));
    }
    Ok(())
}

fn check_texts(pairs: &[(String, String)], what: &str) -> Result<(), Error> {
    for (key, _) in pairs {
        if key.is_empty() || key.chars().count() > 250 {
            return Err(Error::field(
                format!("{what}.key"),
                format!("{key:?}"),
                "it must have 1 to 250 characters",
            ));
        }
    }
    Ok(())
}

fn check_tags(tags: &[(String, String)]) -> Result<(), Error> {
    check_texts(tags, "tags")?;
    tags.iter()
        .try_for_each(|(key, _)| key::check_not_reserved(key))
}

impl Tracking {
    /// Makes a logged model that waits for its files.
    ///
    /// # Errors
    /// [`Error::ExperimentNotFound`]; [`Error::NotOwned`] when a job names a run of another.
    pub async fn create_logged_model(
        &self,
        new: NewLoggedModel,
        caller: &Identity,
    ) -> Result<LoggedModel, Error> {
        let experiment_id = experiment::parse_id(&new.experiment_id)?;
        let name = match new.name {
            Some(name) => name,
            None => format!("model-{}", &id::random_hex()?[..8]),
        };
        check_name(&name)?;
        check_texts(&new.params, "params")?;
        check_tags(&new.tags)?;
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let experiment = experiments::find(&mut tx, experiment_id)
            .await?
            .ok_or_else(|| Error::ExperimentNotFound {
                by: format!("id={experiment_id}"),
            })?;
        if experiment.lifecycle_stage == LifecycleStage::Deleted {
            return Err(Error::Invalid(format!(
                "The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
            )));
        }
        if let (Some(run_id), Some(_)) = (&new.source_run_id, caller.job_id())
            && let Some(run) = runs::find(&mut tx, run_id).await?
        {
            check_owner(caller, run.job_id.as_deref(), "run", run_id)?;
        }
        let model_id = format!("m-{}", id::random_hex()?);
        let model = LoggedModel {
            artifact_uri: format!(
                "{}/models/{model_id}/artifacts",
                experiment.artifact_location
            ),
            model_id,
            experiment_id: experiment.experiment_id,
            name,
            creation_time: now,
            last_update_time: now,
            status: LoggedModelStatus::Pending,
            status_message: None,
            lifecycle_stage: LifecycleStage::Active,
            model_type: new.model_type,
            source_run_id: new.source_run_id.filter(|id| !id.is_empty()),
            job_id: caller.job_id().map(str::to_owned),
            tags: new.tags.into_iter().collect(),
            params: new.params.into_iter().collect(),
            metrics: Vec::new(),
        };
        logged_models::insert(&mut tx, &model).await?;
        tx.commit().await?;
        Ok(model)
    }

    /// The logged model with this id.
    ///
    /// # Errors
    /// [`Error::LoggedModelNotFound`], also when it is deleted.
    pub async fn get_logged_model(&self, model_id: &str) -> Result<LoggedModel, Error> {
        if let Some(external) = &self.external {
            return external.get_logged_model(model_id).await;
        }
        let mut conn = self.db.acquire().await?;
        find_active(&mut conn, model_id).await
    }

    /// The logged models that a job made, oldest first.
    pub async fn logged_models_of_job(&self, job_id: &str) -> Result<Vec<LoggedModel>, Error> {
        if let Some(external) = &self.external {
            return external.logged_models_of_job(job_id).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(logged_models::list_of_job(&mut conn, job_id).await?)
    }

    /// The logged models of a run, newest first.
    pub async fn logged_models_of_run(&self, run_id: &str) -> Result<Vec<LoggedModel>, Error> {
        if let Some(external) = &self.external {
            return external.logged_models_of_run(run_id).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(logged_models::list_of_run(&mut conn, run_id).await?)
    }

    /// Says that a logged model has all its files, or never will.
    pub async fn finalize_logged_model(
        &self,
        model_id: &str,
        status: LoggedModelStatus,
        caller: &Identity,
    ) -> Result<LoggedModel, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let mut model = find_owned(&mut tx, model_id, caller).await?;
        model.status = status;
        model.last_update_time = now;
        logged_models::update_status(&mut tx, model_id, status, now).await?;
        tx.commit().await?;
        Ok(model)
    }

    /// Deletes a logged model; its files stay.
    pub async fn delete_logged_model(
        &self,
        model_id: &str,
        caller: &Identity,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, model_id, caller).await?;
        logged_models::mark_deleted(&mut tx, model_id, Timestamp::now().0).await?;
        Ok(tx.commit().await?)
    }

    /// Sets tags of a logged model.
    pub async fn set_logged_model_tags(
        &self,
        model_id: &str,
        tags: &[(String, String)],
        caller: &Identity,
    ) -> Result<LoggedModel, Error> {
        if let Some(external) = &self.external {
            return external.set_logged_model_tags(model_id, tags).await;
        }
        check_tags(tags)?;
        let mut tx = self.db.begin().await?;
        let mut model = find_owned(&mut tx, model_id, caller).await?;
        logged_models::set_tags(&mut tx, model_id, tags).await?;
        model.tags.extend(tags.iter().cloned());
        tx.commit().await?;
        Ok(model)
    }

    /// Removes a tag of a logged model.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has no such tag.
    pub async fn delete_logged_model_tag(
        &self,
        model_id: &str,
        key: &str,
        caller: &Identity,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, model_id, caller).await?;
        if logged_models::delete_tag(&mut tx, model_id, key).await? == 0 {
            return Err(Error::NotFound(format!(
                "No tag with key {key:?} found for model with ID {model_id:?}."
            )));
        }
        Ok(tx.commit().await?)
    }

    /// Adds params to a logged model; a param never changes.
    pub async fn log_logged_model_params(
        &self,
        model_id: &str,
        params: &[(String, String)],
        caller: &Identity,
    ) -> Result<(), Error> {
        check_texts(params, "params")?;
        let mut tx = self.db.begin().await?;
        let model = find_owned(&mut tx, model_id, caller).await?;
        let mut added = BTreeMap::new();
        for (key, value) in params {
            let old = model.params.get(key).or_else(|| added.get(key));
            match old {
                Some(old) if old != value => {
                    return Err(Error::Invalid(format!(
                        "Changing param values is not allowed. Param with key='{key}' was already \
                         logged with value='{old}' for model ID='{model_id}'. Attempted logging new \
                         value '{value}'."
                    )));
                }
                Some(_) => {}
                None => {
                    added.insert(key.clone(), value.clone());
                }
            }
        }
        logged_models::insert_params(&mut tx, model_id, &added).await?;
        Ok(tx.commit().await?)
    }

    /// Searches logged models; gives a page and the token of the next one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter, order or token that cannot be read.
    pub async fn search_logged_models(
        &self,
        wanted: &SearchLoggedModels,
    ) -> Result<(Vec<LoggedModel>, Option<String>), Error> {
        let limit = wanted.max_results.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::field(
                "max_results",
                limit.to_string(),
                format!("it must be between 1 and {MAX_PAGE}"),
            ));
        }
        let offset = page::offset(wanted.page_token.as_deref())?;
        let search = Search::new(wanted)?;
        let mut conn = self.db.acquire().await?;
        let mut models = logged_model_search::list(&mut conn, search, limit + 1, offset).await?;
        let more = models.len() as i64 > limit;
        models.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((models, more.then(|| page::token(offset + limit))))
    }
}

async fn find_active(conn: &mut db::Conn, model_id: &str) -> Result<LoggedModel, Error> {
    logged_models::find(conn, model_id)
        .await?
        .filter(|model| model.lifecycle_stage == LifecycleStage::Active)
        .ok_or_else(|| Error::LoggedModelNotFound(model_id.to_owned()))
}

/// Refuses a job that says of a logged model of others that it made it.
pub(crate) async fn check_made_by(
    conn: &mut db::Conn,
    model_id: &str,
    job_id: Option<&str>,
) -> Result<(), Error> {
    let found = logged_models::find(conn, model_id).await?;
    match (found, job_id) {
        (Some(model), Some(job_id)) if model.job_id.as_deref() != Some(job_id) => {
            Err(Error::NotOwned {
                what: format!("logged model {model_id}"),
                job_id: job_id.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

async fn find_owned(
    conn: &mut db::Conn,
    model_id: &str,
    caller: &Identity,
) -> Result<LoggedModel, Error> {
    let model = find_active(conn, model_id).await?;
    check_owner(caller, model.job_id.as_deref(), "logged model", model_id)?;
    Ok(model)
}
