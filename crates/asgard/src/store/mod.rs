//! The SQL of the binary: the table of API keys, and the tables of MLflow that an import reads.

pub(crate) mod keys;
pub(crate) mod mlflow;
