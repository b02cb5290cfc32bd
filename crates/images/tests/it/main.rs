//! Images built from small files, written as layouts and pushed into a real registry.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod ecr;
mod layout;
mod push;
mod setup;
mod token;
