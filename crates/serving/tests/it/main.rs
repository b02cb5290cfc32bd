//! Predictions through the route, from models that real Python has trained.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod ahead;
mod engines;
mod failures;
mod features_from;
mod hostile;
mod lifecycle;
mod model_server;
mod parity;
mod proofs;
mod setup;
