//! The running server: where it listens, what it logs and measures, how it stops.

mod config;
mod exposure;
mod job_server;
mod listener;
mod logging;
mod metrics;
mod open_files;

pub use config::{Config, LogFormat};
pub use exposure::{Address, Exposure};
pub use job_server::JobServer;
pub use listener::{Listener, serve};
pub use logging::log_to_stderr;
pub use metrics::Metrics;
pub use open_files::raise_open_files;
