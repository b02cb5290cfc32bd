//! Feature services, and where they log.

use std::collections::HashMap;

use prost::Message;

use super::{FeatureSpec, Meta};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureService {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<FeatureServiceSpec>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureServiceSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) features: Vec<Projection>,
    #[prost(map = "string, string", tag = "4")]
    pub(crate) tags: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Projection {
    #[prost(string, tag = "1")]
    pub(crate) feature_view_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) feature_columns: Vec<FeatureSpec>,
    #[prost(string, tag = "3")]
    pub(crate) feature_view_name_alias: String,
    #[prost(map = "string, string", tag = "4")]
    pub(crate) join_key_map: HashMap<String, String>,
}

/// A feature service, read for the place of its logs only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoggedService {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<LoggedSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoggedSpec {
    #[prost(message, optional, tag = "7")]
    pub(crate) logging_config: Option<LoggingConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoggingConfig {
    #[prost(message, optional, tag = "3")]
    pub(crate) file_destination: Option<FileDestination>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileDestination {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
}
