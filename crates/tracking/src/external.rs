//! An external MLflow server in place of the embedded one (`tracking.uri`).
//!
//! Clients and jobs still talk to asgard, which passes their requests on and asks the same server
//! for what it needs itself. Who made what is noted here as *stamps*, in asgard's own database: a
//! tag on the other server is for people to read, and decides nothing.

mod files;
mod forward;
mod records;
mod rules;
mod spans;
mod stamp;
mod traces;
mod upstream;

pub use forward::JobWrite;
pub use stamp::{Kind, Stamp};

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use db::Db;
use object_store::ObjectStore;
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;
use upstream::{ANSWER, Upstream};

pub(crate) use rules::{Write, write_of};

/// How long an answer may take that the state of the platform is made of.
pub(crate) const STATUS: Duration = Duration::from_secs(2);

/// The handle of an external MLflow server; cheap to clone.
#[derive(Clone)]
pub struct External {
    upstream: Upstream,
    db: Db,
}

impl External {
    /// The server that the configuration names, if it names one. It need not answer yet.
    ///
    /// # Errors
    /// [`Error::ExternalSetting`] for an address or credentials that cannot be.
    pub fn of(config: &Config, db: Db) -> Result<Option<Self>, Error> {
        let upstream = Upstream::of(config)?;
        Ok(upstream.map(|upstream| Self { upstream, db }))
    }

    /// The server's address, without credentials.
    pub fn url(&self) -> &str {
        self.upstream.url()
    }

    /// Asks a route of the server's API, `2.0/mlflow/...`, with fields in the query.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::NoAnswer`], [`Error::ExternalCredentials`], and
    /// [`Error::ExternalAnswer`] for what the server refuses.
    pub async fn get(&self, route: &str, fields: &[(&str, &str)]) -> Result<Value, Error> {
        self.upstream.get(route, fields, ANSWER).await
    }

    /// The same with the patience that the platform's state has.
    pub async fn get_for_status(
        &self,
        route: &str,
        fields: &[(&str, &str)],
    ) -> Result<Value, Error> {
        self.upstream.get(route, fields, STATUS).await
    }

    /// Sends fields to a route of the server's API.
    pub async fn post(&self, route: &str, fields: &Value) -> Result<Value, Error> {
        self.upstream.post(route, fields, ANSWER).await
    }

    /// Sends fields to a route of the server's API by PATCH.
    pub async fn patch(&self, route: &str, fields: &Value) -> Result<Value, Error> {
        self.upstream
            .tell(Method::PATCH, route, fields, ANSWER)
            .await
    }

    /// The server's artifact proxy as a store.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(files::Proxied::new(self.upstream.clone()))
    }
}

/// A part of an answer by its JSON pointer; null when it is not there.
pub fn take(answer: &mut Value, pointer: &str) -> Value {
    answer
        .pointer_mut(pointer)
        .map(Value::take)
        .unwrap_or_default()
}

/// Whether the server said that there is no such thing, and not that it is no such route.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::ExternalAnswer { error_code: Some(code), .. } if code == "RESOURCE_DOES_NOT_EXIST")
}
