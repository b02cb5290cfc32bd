//! Requests and answers of the registry (field numbers of Feast 0.67). Definitions are kept as
//! bytes in them.

use std::collections::HashMap;

use prost::Message;

use super::{LABEL, ON_DEMAND, STREAM};
use crate::error::Kind;
use crate::proto;

/// `Apply*Request`: the definition is kept as bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) object: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) project: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyViewRequest {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) feature_view: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) on_demand: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) stream: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub(super) label: Option<Vec<u8>>,
    #[prost(string, tag = "4")]
    pub(super) project: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyProjectRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) project: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApplyMaterializationRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) feature_view: Option<proto::Named>,
    #[prost(string, tag = "2")]
    pub(super) project: String,
    #[prost(message, optional, tag = "3")]
    pub(super) start_date: Option<proto::Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub(super) end_date: Option<proto::Timestamp>,
}

/// `Get*Request` and `Delete*Request`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NameRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) project: String,
}

/// `List*Request`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListRequest {
    #[prost(string, tag = "1")]
    pub(super) project: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) tags: HashMap<String, String>,
}

/// `DeleteProjectRequest`, whose second field is no project.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteProjectRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `ListProjectsRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListProjectsRequest {
    #[prost(map = "string, string", tag = "2")]
    pub(super) tags: HashMap<String, String>,
}

/// `ListSavedDatasetsRequest`: what it has beside the others. The numbers mean something else in
/// `ListAllFeatureViewsRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WithinRequest {
    #[prost(string, tag = "6")]
    pub(super) namespace: String,
    #[prost(string, tag = "7")]
    pub(super) collection: String,
}

/// `List*Response`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) items: Vec<Vec<u8>>,
}

/// `AnyFeatureView`: exactly one is there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyView {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) feature_view: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) on_demand: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) stream: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) label: Option<Vec<u8>>,
}

impl AnyView {
    pub(super) fn new(kind: Kind, bytes: Vec<u8>) -> Self {
        let mut view = Self::default();
        *match kind {
            ON_DEMAND => &mut view.on_demand,
            STREAM => &mut view.stream,
            LABEL => &mut view.label,
            _ => &mut view.feature_view,
        } = Some(bytes);
        view
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetAnyViewResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) any_feature_view: Option<AnyView>,
}

/// `feast.core.Registry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Whole {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) entities: Vec<Vec<u8>>,
    #[prost(string, tag = "3")]
    pub(super) schema_version: String,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(super) feature_views: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(super) feature_services: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) on_demand: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub(super) saved_datasets: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub(super) data_sources: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub(super) validation_references: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "14")]
    pub(super) stream: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "16")]
    pub(super) permissions: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "17")]
    pub(super) projects: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "19")]
    pub(super) labels: Vec<Vec<u8>>,
}
