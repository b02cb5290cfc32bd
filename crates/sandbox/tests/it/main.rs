//! Programs in a sandbox, and what they try in order to leave it.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod runs;
mod setup;
