//! Programs in a sandbox, and what they try in order to leave it.
#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

mod ends;
mod escapes;
mod runs;
mod setup;
