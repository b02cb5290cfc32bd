//! Tracking through its routes, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod artifacts;
mod buckets;
mod datasets;
mod evaluation;
mod experiments;
mod external;
mod histories;
mod jobs;
mod logged_models;
mod logging;
mod many_runs;
mod other_clients;
mod removals;
mod requests;
mod run_search;
mod runs;
mod server;
mod spans;
mod trace_search;
mod traces;
