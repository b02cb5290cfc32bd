//! Predictions of registered models: `POST /mlops/inference`.
//!
//! A request names a model; its version is resolved on every request, its columns are checked
//! against the model's signature here, and its answer comes from the model's own Python code in a
//! sandboxed worker that this crate starts, feeds, watches and stops.
//!
//! Invariants: no model code runs in this process; an answer has the same bits as the same call of
//! the model in Python; a request that fails says why and what to do; workers die with the server.

mod answer;
mod config;
mod convert;
mod copies;
mod datetime;
mod dispatch;
mod engine;
mod error;
mod example;
mod features_from;
mod fit;
mod folder;
mod frame;
mod http;
mod inference;
mod inputs;
mod load;
mod mlmodel;
mod model_key;
mod model_server;
mod models;
mod prove;
mod requirements;
mod resolve;
mod serving;
mod signature;
mod tabular;
mod tensor;
mod values;
mod variables;
mod worker;

pub use config::Config;
pub use copies::Folder;
pub use error::Error;
pub use features_from::{FeaturesAsked, FeaturesFound, FoundFeature, OnlineFeatures};
pub use fit::Problem;
pub use http::{model_server_routes, model_server_table, openapi, routes};
pub use inference::{Engine, Inference, Prediction};
pub use inputs::Inputs;
pub use model_key::ModelKey;
pub use model_server::{ModelFolder, ModelServer};
pub use serving::Serving;
pub use values::Values;
pub use variables::Variables;
pub use worker::{Death, Raised};
