//! Data sources.

use std::collections::HashMap;

use prost::Message;

use super::FeatureSpec;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataSource {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) field_mapping: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) timestamp_field: String,
    #[prost(string, tag = "5")]
    pub(crate) created_timestamp_column: String,
    #[prost(message, optional, tag = "11")]
    pub(crate) file_options: Option<FileOptions>,
    #[prost(message, optional, tag = "16")]
    pub(crate) custom_options: Option<CustomOptions>,
    #[prost(string, tag = "17")]
    pub(crate) class_type: String,
    #[prost(message, optional, tag = "18")]
    pub(crate) request_data: Option<RequestData>,
    #[prost(string, tag = "20")]
    pub(crate) name: String,
    #[prost(string, tag = "21")]
    pub(crate) project: String,
    #[prost(map = "string, string", tag = "24")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(message, optional, boxed, tag = "26")]
    pub(crate) batch_source: Option<Box<DataSource>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileOptions {
    #[prost(string, tag = "2")]
    pub(crate) uri: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CustomOptions {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) configuration: Vec<u8>,
}

/// What a request source brings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestData {
    #[prost(message, repeated, tag = "3")]
    pub(crate) schema: Vec<FeatureSpec>,
}
