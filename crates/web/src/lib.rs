//! The door to asgard: routes that each declare a permission, who is calling, request and
//! response shapes, errors that teach.
//!
//! A domain crate builds its [`Routes`]; every one names the [`Permission`] it needs, because
//! there is no other way to add one. The binary merges them and puts the [`Door`] in front, which
//! refuses foreign hosts and cross-site requests and finds the caller's [`Identity`].

mod code;
mod door;
mod error;
mod extract;
mod follow;
mod grpc;
mod idempotency;
mod identity;
mod mistake;
mod observe;
mod routes;
mod secret;
pub mod testing;
mod timestamp;

pub use code::Code;
pub use door::{Authenticate, Credentials, Door};
pub use error::{ApiError, FieldError, MlflowError};
pub use extract::{Caller, Json, Path, Query, RequestId};
pub use follow::{EventHeaders, Followed, Look, follow};
pub use grpc::{GRPC, set_grpc_status};
pub use idempotency::IdempotencyKey;
pub use identity::{Identity, Permission, Role};
pub use mistake::json_mistake;
pub use routes::{RouteEntry, Routes, Style};
pub use secret::Secret;
pub use timestamp::Timestamp;
