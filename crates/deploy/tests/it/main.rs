//! Deployments through their routes, on both databases, with real sandboxed processes; a program of
//! the standard library stands in for the model server, whose own tests are in `serving`.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[cfg(feature = "kubernetes")]
mod cluster;
mod create;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod live;
mod server;
