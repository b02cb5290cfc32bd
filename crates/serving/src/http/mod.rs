//! The routes of serving.

mod inference;
mod invocations;
mod model_server;
mod v2;

pub use inference::{openapi, routes};
pub use model_server::{routes as model_server_routes, table as model_server_table};
