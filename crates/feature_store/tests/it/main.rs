//! Requests through the routes of the feature store, on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod app;
mod catalogs;
mod feast_kept;
mod feast_sdk;
mod features;
mod historical;
mod hostile;
mod loads;
mod online;
mod redis;
mod shared;
mod stats;
mod tables;
mod training;
