//! asgard: a Python training script becomes a tracked, registered, served model.
//!
//! The binary's library: [`up`] starts a server from its [`settings`], [`platform`] puts the
//! domains together, [`commands`] are the command line.

pub mod backup;
mod client;
pub mod commands;
pub mod failure;
#[cfg(feature = "feature-store")]
pub mod features;
#[cfg(not(feature = "feature-store"))]
#[path = "features_absent.rs"]
pub mod features;
pub mod gc;
mod http;
mod import;
pub mod key;
pub mod mlflow_ui;
mod model_files;
pub mod model_image;
pub mod model_server;
pub mod openapi;
pub mod platform;
mod private_folder;
mod retention;
pub mod server;
pub mod settings;
pub mod status;
mod stop_signals;
mod store;
pub mod surroundings;
pub mod tabular;
pub mod up;
