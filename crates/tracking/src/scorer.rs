//! Scorers: the judges that an experiment's clients keep, in versions. The server stores what the
//! client serialized and never runs it.

use serde_json::Value;
use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::store::{experiments, scorers};
use crate::{experiment, id, key, tag};

/// The longest name, in characters (`SqlScorer`), and the largest scorer, in bytes.
const MAX_NAME_CHARS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// A version of a scorer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scorer {
    pub(crate) experiment_id: i64,
    pub(crate) name: String,
    /// From 1 on.
    pub(crate) version: i64,
    /// The same for all versions.
    pub(crate) scorer_id: String,
    /// The client's JSON.
    pub(crate) serialized: String,
    pub(crate) created_time: i64,
    /// The job that made this version.
    pub(crate) job_id: Option<String>,
}

fn not_found(experiment_id: i64, name: &str, version: Option<i64>) -> Error {
    let version = version.map_or_else(String::new, |version| format!(" and version {version}"));
    Error::NotFound(format!(
        "Scorer with name '{name}'{version} not found for experiment {experiment_id}."
    ))
}

/// The id of an active experiment.
async fn active(conn: &mut db::Conn, experiment_id: &str) -> Result<i64, Error> {
    let id = experiment::parse_id(experiment_id)?;
    match experiments::location_of_active(conn, id).await? {
        Some(Some(_)) => Ok(id),
        Some(None) => Err(tag::not_active(id)),
        None => Err(experiment::not_found(id)),
    }
}

impl Tracking {
    /// Adds the next version of a scorer; a job to those of its own experiments.
    pub(crate) async fn register_scorer(
        &self,
        experiment_id: &str,
        name: String,
        serialized: String,
        job_id: Option<&str>,
    ) -> Result<Scorer, Error> {
        if name.trim().is_empty() {
            return Err(Error::Invalid(
                "Scorer name cannot be empty or contain only whitespace.".to_owned(),
            ));
        }
        key::check_length(&name, MAX_NAME_CHARS, "name")?;
        if serialized.len() > MAX_BYTES {
            return Err(Error::Invalid(format!(
                "'serialized_scorer' is larger than {MAX_BYTES} bytes"
            )));
        }
        if !serde_json::from_str::<Value>(&serialized).is_ok_and(|value| value.is_object()) {
            return Err(Error::Invalid(
                "serialized_scorer must be valid JSON: an object".to_owned(),
            ));
        }
        self.check_own_experiment(experiment_id, job_id).await?;
        let mut tx = self.db.begin().await?;
        let experiment_id = experiment::parse_id(experiment_id)?;
        let now = Timestamp::now().0;
        // Also keeps others waiting: the versions of one experiment are counted one by one.
        tag::check_active_experiment(&mut tx, experiment_id, now).await?;
        let newest = scorers::find(&mut tx, experiment_id, &name, None).await?;
        let (scorer_id, version) = match newest {
            Some(newest) => (newest.scorer_id, newest.version + 1),
            None => (id::random_hex()?, 1),
        };
        let scorer = Scorer {
            experiment_id,
            name,
            version,
            scorer_id,
            serialized,
            created_time: now,
            job_id: job_id.map(str::to_owned),
        };
        scorers::insert(&mut tx, &scorer).await?;
        tx.commit().await?;
        Ok(scorer)
    }

    /// The newest version of each scorer of an experiment, or of all active experiments, by name.
    pub(crate) async fn list_scorers(
        &self,
        experiment_ids: Option<&[String]>,
    ) -> Result<Vec<Scorer>, Error> {
        let mut conn = self.db.acquire().await?;
        let ids = match experiment_ids {
            None => None,
            Some([one]) => Some(vec![active(&mut conn, one).await?]),
            Some(many) => {
                let ids = many.iter().map(|id| experiment::parse_id(id));
                Some(ids.collect::<Result<Vec<i64>, _>>()?)
            }
        };
        Ok(scorers::list_newest(&mut conn, ids.as_deref()).await?)
    }

    /// All versions of a scorer, the oldest first.
    pub(crate) async fn list_scorer_versions(
        &self,
        experiment_id: &str,
        name: &str,
    ) -> Result<Vec<Scorer>, Error> {
        let mut conn = self.db.acquire().await?;
        let experiment_id = active(&mut conn, experiment_id).await?;
        let found = scorers::list_versions(&mut conn, experiment_id, name).await?;
        if found.is_empty() {
            return Err(not_found(experiment_id, name, None));
        }
        Ok(found)
    }

    /// A version of a scorer, or the newest.
    pub(crate) async fn get_scorer(
        &self,
        experiment_id: &str,
        name: &str,
        version: Option<i64>,
    ) -> Result<Scorer, Error> {
        let mut conn = self.db.acquire().await?;
        let experiment_id = active(&mut conn, experiment_id).await?;
        let found = scorers::find(&mut conn, experiment_id, name, version).await?;
        found.ok_or_else(|| not_found(experiment_id, name, version))
    }

    /// Deletes a version of a scorer, or all of them.
    pub(crate) async fn delete_scorer(
        &self,
        experiment_id: &str,
        name: &str,
        version: Option<i64>,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let experiment_id = active(&mut tx, experiment_id).await?;
        let mut doomed = scorers::list_versions(&mut tx, experiment_id, name).await?;
        doomed.retain(|scorer| version.is_none_or(|version| version == scorer.version));
        if doomed.is_empty() {
            return Err(not_found(experiment_id, name, version));
        }
        for scorer in &doomed {
            if let Some(job_id) = job_id
                && scorer.job_id.as_deref() != Some(job_id)
            {
                return Err(Error::NotOwned {
                    what: format!("scorer {name} version {}", scorer.version),
                    job_id: job_id.to_owned(),
                });
            }
            scorers::delete(&mut tx, scorer).await?;
        }
        Ok(tx.commit().await?)
    }
}
