//! The routes of the binary itself: keys, status, metrics, documentation, the page at `/`.

pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod gc;
pub(crate) mod graphql;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod loading;
pub(crate) mod metrics;
pub(crate) mod mlflow_ui;
pub(crate) mod page;
pub(crate) mod status;
