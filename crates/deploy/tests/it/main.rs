//! Deployments through their routes, on both databases, with real sandboxed processes; a program of
//! the standard library stands in for the model server, whose own tests are in `serving`.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod create;
mod live;
mod server;
