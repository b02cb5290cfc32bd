//! All parts of one server, built from the ground up, and their routes put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use db::{Backend, Db, Seal};
use deploy::Deployments;
use environments::Environments;
use images::Images;
use jobs::{JobDoor, Jobs};
use registry::Registry;
use sandbox::Sandbox;
use serving::Serving;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracking::{Artifacts, External, Tracking};
use web::{ApiError, Authenticate, Credentials, Identity, Routes, Timestamp};
use webhooks::Webhooks;

use crate::features::{self, Features};
use crate::gc::Collector;
use crate::http::{self, doctor::Examined};
use crate::key::{self, Keys};
use crate::mlflow_ui::MlflowUi;
use crate::model_image::ModelImages;
use crate::openapi;
use crate::retention::Retention;
use crate::server::{DeploymentServer, JobServer, Metrics};
use crate::settings::Settings;
use crate::status::{About, Counts, Sources, Status};

/// Every domain's handle; cheap to clone.
#[derive(Clone)]
pub struct Platform {
    pub keys: Keys,
    pub tracking: Tracking,
    pub registry: Registry,
    pub jobs: Jobs,
    pub serving: Serving,
    pub webhooks: Webhooks,
    pub deployments: Deployments,
    pub features: Features,
    pub status: Status,
    examined: Examined,
    retention: Retention,
    mlflow_ui: MlflowUi,
    metrics: Metrics,
}

/// What a platform is built on.
pub struct Ground<'a> {
    pub settings: &'a Settings,
    pub data_dir: &'a Path,
    /// Open and migrated.
    pub db: Db,
    pub sandbox: Sandbox,
    pub about: About,
    pub metrics: Metrics,
    pub job_server: JobServer,
    pub deployment_server: DeploymentServer,
    /// This program.
    pub program: PathBuf,
    /// Where jobs without a network of their own reach this server.
    pub jobs_url: String,
}

/// The migrations of every domain.
pub const MIGRATIONS: &[db::Migrations] = &[
    key::MIGRATIONS,
    tracking::MIGRATIONS,
    registry::MIGRATIONS,
    webhooks::MIGRATIONS,
    jobs::MIGRATIONS,
    deploy::MIGRATIONS,
    features::MIGRATIONS,
];

impl Platform {
    /// Builds every part, from the ground up.
    ///
    /// # Errors
    /// When a part cannot start; the message names it.
    pub async fn build(ground: Ground<'_>) -> anyhow::Result<Self> {
        let Ground {
            settings,
            data_dir,
            db,
            ..
        } = ground;
        let keys = Keys::new(db.clone());
        let tracking = track(settings, data_dir, &db).await?;
        let mlflow_ui = MlflowUi::open(&settings.tracking, data_dir)?;
        let alone = db.backend() == Backend::Sqlite;
        let seal = Seal::open(settings.secret_key(), data_dir, alone)
            .context("cannot open the key that secrets are sealed with")?;
        let webhooks = Webhooks::new(db.clone(), settings.webhooks.clone(), seal.clone());
        let registry = Registry::new(db.clone(), tracking.clone())
            .with_webhooks(webhooks.clone())
            .with_job_uploads(jobs::job_uploads(db.clone()));
        let environments =
            Environments::open(&settings.environments, data_dir, ground.sandbox.clone())
                .await
                .context("cannot open the store of Python environments")?;
        let examined = Examined {
            sandbox: ground.sandbox.clone(),
            environments: environments.clone(),
            keep_logs_days: settings.jobs.keep_logs_days,
        };
        let features = Features::open(
            db.clone(),
            &settings.feature_store,
            data_dir,
            environments.clone(),
            ground.sandbox.clone(),
        )?;
        let serving = Serving::new(
            registry.clone(),
            environments.clone(),
            ground.sandbox.clone(),
            settings.serving.clone(),
            data_dir,
            features.online(),
        );
        let job_server = ground.job_server;
        let sandbox = ground.sandbox.clone();
        let parts = jobs::Parts {
            db: db.clone(),
            tracking: tracking.clone(),
            registry: registry.clone(),
            environments: environments.clone(),
            sandbox: ground.sandbox,
            seal: seal.clone(),
            door: JobDoor {
                url: ground.jobs_url,
                serve: Arc::new(move |listener, job_id, stop| {
                    job_server.serve(listener, job_id, stop);
                }),
                feast_repo: Features::repo_of_jobs(),
            },
        };
        let jobs = Jobs::new(parts, settings.jobs.clone(), data_dir);
        // What one server seals with a key of its own no other on the same database can read.
        let sealed_by_all = seal.is_common();
        if sealed_by_all {
            webhooks.seal_plain_secrets().await?;
            jobs.seal_plain_variables().await?;
        } else {
            tracing::warn!(
                "server.secret_key is not set: the variables of jobs and deployments and scripts to deploy lie in the database as they are, and other servers on it cannot open the secrets of webhooks that are sealed here"
            );
        }
        let images = Images::open(&settings.images, data_dir, ground.program.clone())
            .context("cannot prepare the building of images")?;
        let making = ModelImages {
            images,
            serving: serving.clone(),
            tracking: tracking.clone(),
        };
        let pull = making.pull_login();
        let image = settings.images.registry.is_some().then(|| making.maker());
        let deployment_server = ground.deployment_server;
        let parts = deploy::Parts {
            db,
            jobs: jobs.clone(),
            registry: registry.clone(),
            serving: serving.clone(),
            sandbox,
            seal,
            program: ground.program,
            serve: Arc::new(move |listener, routes, stop| {
                deployment_server.serve(listener, routes, stop)
            }),
            image,
            pull,
        };
        let deployments = Deployments::open(parts, settings.deploy.clone(), data_dir)
            .context("cannot prepare deployments")?;
        if sealed_by_all {
            deployments.seal_plain_environments().await?;
        }
        let retention = Retention {
            environments,
            registry: registry.clone(),
            jobs: jobs.clone(),
            deployments: deployments.clone(),
        };
        let status = Status::new(
            ground.about,
            sources(&tracking, &registry, &jobs, &features),
        );
        Ok(Self {
            keys,
            tracking,
            registry,
            jobs,
            serving,
            webhooks,
            deployments,
            features,
            status,
            examined,
            retention,
            mlflow_ui,
            metrics: ground.metrics,
        })
    }

    /// The routes of every domain, and the documentation made from them.
    pub fn routes(&self) -> Routes {
        let routes = http::health::routes()
            .merge(http::page::routes())
            .merge(http::keys::routes(self.keys.clone()))
            .merge(http::status::routes(self.status.clone()))
            .merge(http::doctor::routes(self.examined.clone()))
            .merge(http::gc::routes(Collector::new(
                self.tracking.clone(),
                self.registry.clone(),
            )))
            .merge(http::metrics::routes(self.metrics.clone()))
            .merge(http::mlflow_ui::routes(self.mlflow_ui.clone()))
            .merge(http::graphql::routes(self.mlflow_routes().into_router()))
            .merge(deploy::routes(self.deployments.clone()))
            .merge(jobs::routes(self.jobs.clone()))
            .merge(serving::routes(self.serving.clone()))
            .merge(match self.tracking.external() {
                None => webhooks::routes(self.webhooks.clone()),
                Some(_) => webhooks::routes_beside_external(self.webhooks.clone()),
            })
            .merge(self.mlflow_routes())
            .merge(self.features.routes())
            .merge(self.features.training_routes(self.jobs.clone()))
            .merge(self.features.usage_routes(self.jobs.clone()));
        http::docs::add(routes, |table| {
            let documents = [
                deploy::openapi(),
                jobs::openapi(),
                registry::openapi(),
                serving::openapi(),
                webhooks::openapi(),
                features::openapi(),
            ];
            openapi::describe(&documents, table)
        })
    }

    fn mlflow_routes(&self) -> Routes {
        registry::routes(self.registry.clone()).merge(tracking::routes(self.tracking.clone()))
    }

    /// Starts the work that goes on beside the requests, until `stop`.
    pub fn work(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        tasks.spawn(self.metrics.clone().upkeep(stop.clone()));
        tasks.spawn(self.tracking.clone().work(stop.clone()));
        tasks.spawn(self.registry.clone().work(stop.clone()));
        tasks.spawn(self.jobs.clone().work(stop.clone()));
        tasks.spawn(self.serving.clone().work(stop.clone()));
        tasks.spawn(self.features.clone().work(stop.clone()));
        tasks.spawn(self.retention.clone().work(stop.clone()));
        tasks.spawn(self.webhooks.clone().work(stop.clone()));
        tasks.spawn(self.deployments.clone().work(stop.clone()));
        self.status.begin();
    }

    /// Whether MLflow's page is there to be shown.
    pub async fn has_mlflow_ui(&self) -> bool {
        match self.mlflow_ui.assets().await {
            Ok(assets) => assets.is_some(),
            Err(error) => {
                tracing::warn!(%error, "MLflow's page cannot be read");
                false
            }
        }
    }

    /// Removes what nobody needs any more, as is done from time to time, and gives what failed.
    pub async fn tidy(&self) -> Vec<anyhow::Error> {
        self.retention.tidy().await
    }

    /// Finds who holds a key or a job's token.
    pub fn authenticate(&self) -> Authenticate {
        let (keys, jobs) = (self.keys.clone(), self.jobs.clone());
        Arc::new(move |Credentials { token }| {
            let (keys, jobs) = (keys.clone(), jobs.clone());
            Box::pin(async move {
                if Keys::is_key(&token) {
                    return Ok(keys.authenticate(&token, Timestamp::now().0).await?);
                }
                let job = jobs.authenticate(&token).await.map_err(ApiError::from)?;
                Ok(job.map(|job_id| Identity::Job { job_id }))
            })
        })
    }
}

/// Tracking in this server's own database and store, or in an external server's.
async fn track(settings: &Settings, data_dir: &Path, db: &Db) -> anyhow::Result<Tracking> {
    let job_experiments = jobs::job_experiments(db.clone());
    if let Some(external) = External::of(&settings.tracking, db.clone())? {
        tracing::info!(
            url = external.url(),
            "an external MLflow server keeps runs and models"
        );
        let registered = registry::external_versions_at(external.clone());
        return Ok(Tracking::at(external, db.clone())
            .with_registered(registered)
            .with_job_experiments(job_experiments));
    }
    let artifacts = Artifacts::open(&settings.artifacts, data_dir)
        .context("cannot open the artifact store (artifacts.url)")?;
    let tracking = Tracking::new(db.clone(), artifacts)
        .with_registered(registry::versions_at(db.clone()))
        .with_job_experiments(job_experiments);
    tracking.ensure_default_experiment().await?;
    Ok(tracking)
}

fn sources(tracking: &Tracking, registry: &Registry, jobs: &Jobs, features: &Features) -> Sources {
    let stored = tracking.clone();
    let parts = (tracking.clone(), registry.clone(), jobs.clone());
    let features = features.clone();
    Sources {
        counts: Box::new(move || {
            let (tracking, registry, jobs) = parts.clone();
            let features = features.clone();
            Box::pin(async move {
                let counted = count(&tracking, &registry, &jobs).await;
                let counts = counted.unwrap_or_else(|error| {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "counting for the status failed");
                    Counts {
                        error: Some(error),
                        ..Counts::default()
                    }
                });
                let feature_views = features.count().await;
                Counts {
                    feature_views,
                    ..counts
                }
            })
        }),
        storage: Box::new(move || {
            let tracking = stored.clone();
            Box::pin(async move {
                let tried = tracking.check_artifacts().await;
                tried.map_err(|error| crate::failure::chain(&error))
            })
        }),
    }
}

async fn count(tracking: &Tracking, registry: &Registry, jobs: &Jobs) -> anyhow::Result<Counts> {
    let queue_depth = jobs.queue_depth().await?;
    let counted = tokio::try_join!(
        async { tracking.counts().await.map_err(anyhow::Error::from) },
        async { registry.count().await.map_err(anyhow::Error::from) },
    );
    Ok(match counted {
        Ok((tracked, registered_models)) => Counts {
            active_experiments: tracked.active_experiments,
            registered_models,
            queue_depth,
            available: true,
            ..Counts::default()
        },
        Err(error) => Counts {
            queue_depth,
            error: Some(format!("{error:#}")),
            ..Counts::default()
        },
    })
}

/// The name of a database for `/mlops/status`.
pub fn database_name(db: &Db) -> &'static str {
    match db.backend() {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
    }
}
