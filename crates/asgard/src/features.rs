//! The feature store as a part of this server.

use std::path::Path;

use db::Db;
use environments::Environments;
pub use feature_store::{Config, MIGRATIONS, copy_online, openapi};
use feature_store::{FeatureStore, JobResult, PROJECT, SubmittedScript, feature_store_yaml};
use jobs::{FeastRepo, Jobs, Submission};
use sandbox::Sandbox;
use serving::{FeaturesAsked, FeaturesFound, FoundFeature, OnlineFeatures};
use tokio_util::sync::CancellationToken;
use web::{ApiError, Routes, Timestamp};

/// The feature store; cheap to clone.
#[derive(Clone)]
pub struct Features(FeatureStore);

impl Features {
    /// The feature store on an open, migrated database.
    ///
    /// # Errors
    /// When the settings ask for what the database cannot do.
    pub fn open(
        db: Db,
        config: &Config,
        data_dir: &Path,
        environments: Environments,
        sandbox: Sandbox,
    ) -> anyhow::Result<Self> {
        let store = FeatureStore::new(db, config, data_dir)?;
        Ok(Self(store.with_python(
            environments,
            sandbox,
            config,
            data_dir,
        )))
    }

    /// Ends what goes on beside requests when `stop` says so.
    pub async fn work(self, stop: CancellationToken) {
        self.0.work(stop).await;
    }

    /// Its routes: REST, and those of the Feast SDK.
    pub fn routes(&self) -> Routes {
        feature_store::routes(self.0.clone())
    }

    /// What fills the columns that an inference leaves to the feature store.
    pub fn online(&self) -> Option<OnlineFeatures> {
        let store = self.0.clone();
        Some(std::sync::Arc::new(move |asked| {
            let store = store.clone();
            Box::pin(async move { look_up(&store, asked).await })
        }))
    }

    /// Training from feature views, as jobs like any other.
    pub fn training_routes(&self, jobs: Jobs) -> Routes {
        let submit = move |body, caller| {
            let jobs = jobs.clone();
            let submitted = async move {
                let submission = Submission::parse(body, jobs.config())?;
                let job = jobs.submit(&submission, &caller).await?;
                Ok(SubmittedScript {
                    status: job.status.as_str().to_owned(),
                    created_at: job.created_at,
                    job_id: job.job_id,
                })
            };
            Box::pin(submitted) as futures_util::future::BoxFuture<'static, _>
        };
        feature_store::training_routes(self.0.clone(), std::sync::Arc::new(submit))
    }

    /// Which jobs and models used a view.
    pub fn usage_routes(&self, jobs: Jobs) -> Routes {
        let describe = move |ids: Vec<String>| {
            let jobs = jobs.clone();
            Box::pin(async move {
                let mut described = Vec::with_capacity(ids.len());
                for id in ids {
                    match jobs.get(&id).await {
                        Ok(job) => described.push(JobResult {
                            job_id: id,
                            status: job.status.as_str().to_owned(),
                            model_name: job.request.model_name,
                            model_version: job.model_version,
                            run_id: job.run_id,
                        }),
                        // Its row was removed since.
                        Err(jobs::Error::NotFound(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(described)
            }) as futures_util::future::BoxFuture<'static, _>
        };
        feature_store::usage_routes(self.0.clone(), std::sync::Arc::new(describe))
    }

    /// How many feature views there are; none when the feature store does not answer.
    pub async fn count(&self) -> Option<i64> {
        match self.0.counts().await {
            Ok(counts) => Some(counts.feature_views),
            Err(error) => {
                tracing::warn!(error = %error.message(), "counting the feature views failed");
                None
            }
        }
    }

    /// Makes the Feast repository that every job finds.
    pub fn repo_of_jobs() -> Option<FeastRepo> {
        Some(std::sync::Arc::new(feature_store_yaml))
    }
}

/// The most unknown entities that a note names.
const NAMED: usize = 5;

async fn look_up(store: &FeatureStore, asked: FeaturesAsked) -> Result<FeaturesFound, ApiError> {
    let now_us = Timestamp::now().0.saturating_mul(1000);
    let FeaturesAsked {
        model,
        from,
        entities,
    } = asked;
    let found = store
        .online_columns(PROJECT, from, &entities, now_us)
        .await?;
    let views = found.unknown.iter().map(|(view, _)| view.clone());
    store.note_model_use(PROJECT, views.collect(), &model, now_us / 1000);
    let notes = found.unknown.iter().filter(|(_, rows)| !rows.is_empty());
    let notes = notes.map(|(view, rows)| {
        let named = rows.iter().take(NAMED).map(|row| {
            let keys = found.join_keys.iter().filter_map(|key| {
                Some(format!("{key} {}", entities.get(key)?.get(*row)?))
            });
            keys.collect::<Vec<_>>().join(" and ")
        });
        let named: Vec<String> = named.collect();
        let more = match rows.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "feature view '{view}' has no value online for {}{more}: its features are null there; POST /feast/materialize-incremental loads what its table has",
            named.join(", ")
        )
    });
    Ok(FeaturesFound {
        notes: notes.collect(),
        join_keys: found.join_keys,
        features: found
            .features
            .into_iter()
            .map(|column| FoundFeature {
                view: column.view,
                name: column.feature,
                values: column.values,
            })
            .collect(),
    })
}
