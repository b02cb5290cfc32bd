//! Training jobs through their routes, on SQLite and on PostgreSQL; scripts run in the real sandbox
//! in an environment without packages.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod execution;
mod logs;
mod queue;
mod recovery;
mod sealed;
mod server;
