//! Tracking through its routes, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod artifacts;
mod logged_models;
mod server;
