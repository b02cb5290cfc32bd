//! The registry through its routes, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod aliases;
mod artifacts;
mod events;
mod jobs;
mod models;
mod own;
mod server;
mod sources;
mod versions;
