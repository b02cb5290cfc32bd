//! The running server: where it listens, what it logs and measures, how it stops.

mod config;
mod deployment_server;
mod exposure;
mod job_server;
mod listener;
mod logging;
mod metrics;
mod open_files;

pub use config::{Config, LogFormat};
pub use deployment_server::DeploymentServer;
pub use exposure::{Address, Exposure, Refused};
pub use job_server::JobServer;
pub use listener::{Listener, serve};
pub use logging::log_to_stderr;
pub use metrics::Metrics;
pub use open_files::raise_open_files;
