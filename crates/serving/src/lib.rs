//! Predictions of registered models: `POST /mlops/inference`.

#![expect(dead_code, reason = "the worker that uses it comes next")]

mod config;
mod convert;
mod datetime;
mod fit;
mod frame;
mod inference;
mod inputs;
mod mlmodel;
mod signature;
mod values;

pub use config::Config;
pub use fit::Problem;
pub use inference::{Engine, Inference, Prediction};
pub use inputs::Inputs;
pub use values::Values;
