//! All parts of one server, built from the ground up, and their routes put together.

use std::path::Path;
use std::sync::Arc;

use db::{Backend, Db};
use utoipa::OpenApi as _;
use web::{ApiError, Authenticate, Credentials, Routes, Timestamp};

use crate::http;
use crate::key::{self, Keys};
use crate::server::Metrics;
use crate::settings::Settings;
use crate::status::{About, Counts, Sources, Status};

/// Every domain's handle.
#[derive(Clone)]
pub struct Platform {
    pub db: Db,
    pub keys: Keys,
    pub status: Status,
    metrics: Metrics,
}

/// The migrations of every domain.
pub const MIGRATIONS: &[db::Migrations] = &[key::MIGRATIONS];

impl Platform {
    /// Builds every part on an open, migrated database.
    ///
    /// # Errors
    /// When a part cannot start; the message names it.
    pub async fn build(
        _settings: &Settings,
        _data_dir: &Path,
        db: Db,
        about: About,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let keys = Keys::new(db.clone());
        let sources = Sources {
            counts: Box::new(|| Box::pin(async { Counts::default() })),
            storage: Box::new(|| Box::pin(async { Err("there is no artifact store".to_owned()) })),
        };
        Ok(Self {
            keys,
            status: Status::new(about, sources),
            metrics,
            db,
        })
    }

    /// The routes of every domain, and the documentation made from them.
    pub fn routes(&self) -> Routes {
        let routes = http::health::routes()
            .merge(http::page::routes())
            .merge(http::keys::routes(self.keys.clone()))
            .merge(http::status::routes(self.status.clone()))
            .merge(http::metrics::routes(self.metrics.clone()));
        let openapi = self.openapi(routes.table());
        routes.merge(http::docs::routes(openapi))
    }

    /// The description of every route but MLflow's.
    fn openapi(&self, _table: &[web::RouteEntry]) -> String {
        let api = http::docs::Api::openapi();
        api.to_json().unwrap_or_default()
    }

    /// Finds who holds a key or a job's token.
    pub fn authenticate(&self) -> Authenticate {
        let keys = self.keys.clone();
        Arc::new(move |Credentials { token }| {
            let keys = keys.clone();
            Box::pin(async move {
                if Keys::is_key(&token) {
                    return Ok(keys.authenticate(&token, Timestamp::now().0).await?);
                }
                Ok::<_, ApiError>(None)
            })
        })
    }
}

/// The name of a database for `/mlops/status`.
pub fn database_name(db: &Db) -> &'static str {
    match db.backend() {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
    }
}
