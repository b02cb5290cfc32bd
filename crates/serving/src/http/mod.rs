//! The routes of serving.

mod inference;

pub use inference::{openapi, routes};
