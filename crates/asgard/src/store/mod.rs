//! The SQL of the binary: the table of API keys.

pub(crate) mod keys;
