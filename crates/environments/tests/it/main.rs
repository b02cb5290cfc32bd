//! Environments resolved from a real index, built, found again.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod builds;
mod refusals;
mod retention;
mod setup;
