//! The promises of the binary: who may do what, what is refused at start-up, what the commands
//! print and exit with.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod backups;
mod commands;
mod door;
mod errors;
#[cfg(feature = "feature-store")]
mod features;
mod gc;
mod graphql;
mod jobs;
mod keys;
mod mlflow_page;
mod openapi;
mod permissions;
mod published;
mod published_elsewhere;
mod retention;
mod schemas;
mod server;
mod several;
mod site;
mod start_up;
mod uploads;
