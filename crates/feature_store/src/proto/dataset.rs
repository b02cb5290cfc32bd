//! Saved datasets, and what refers to them.

use std::collections::HashMap;

use prost::Message;

/// A saved dataset, read for what it is and how it is listed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SavedDataset {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<SavedDatasetSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SavedDatasetSpec {
    #[prost(string, repeated, tag = "3")]
    pub(crate) features: Vec<String>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub(crate) storage: Option<Vec<u8>>,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(string, tag = "9")]
    pub(crate) namespace: String,
    #[prost(string, tag = "10")]
    pub(crate) collection: String,
}

/// A validation reference, which has neither `spec` nor `meta`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValidationReference {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) tags: HashMap<String, String>,
}
