//! Feature views: those of a batch source, stream views and label views.

use std::collections::HashMap;

use prost::Message;

use super::{DataSource, Duration, Meta};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureView {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<FeatureViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureViewSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) features: Vec<FeatureSpec>,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) ttl: Option<Duration>,
    #[prost(message, optional, tag = "7")]
    pub(crate) batch_source: Option<DataSource>,
    #[prost(bool, tag = "8")]
    pub(crate) online: bool,
    #[prost(message, optional, tag = "9")]
    pub(crate) stream_source: Option<DataSource>,
    #[prost(string, tag = "10")]
    pub(crate) description: String,
    #[prost(string, tag = "11")]
    pub(crate) owner: String,
    #[prost(message, repeated, tag = "12")]
    pub(crate) entity_columns: Vec<FeatureSpec>,
    #[prost(bool, tag = "20")]
    pub(crate) disabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) value_type: i32,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(string, tag = "4")]
    pub(crate) description: String,
}

/// A stream feature view, read for what its rows are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamView {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<StreamViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamViewSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) features: Vec<FeatureSpec>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) entity_columns: Vec<FeatureSpec>,
    #[prost(string, tag = "6")]
    pub(crate) description: String,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(string, tag = "8")]
    pub(crate) owner: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) ttl: Option<Duration>,
    #[prost(message, optional, tag = "10")]
    pub(crate) batch_source: Option<DataSource>,
    #[prost(message, optional, tag = "11")]
    pub(crate) stream_source: Option<DataSource>,
    #[prost(bool, tag = "12")]
    pub(crate) online: bool,
    #[prost(bool, tag = "23")]
    pub(crate) disabled: bool,
}

impl From<StreamView> for FeatureView {
    fn from(view: StreamView) -> Self {
        let spec = view.spec.map(|spec| FeatureViewSpec {
            name: spec.name,
            project: spec.project,
            entities: spec.entities,
            features: spec.features,
            tags: spec.tags,
            ttl: spec.ttl,
            batch_source: spec.batch_source,
            online: spec.online,
            stream_source: spec.stream_source,
            description: spec.description,
            owner: spec.owner,
            entity_columns: spec.entity_columns,
            disabled: spec.disabled,
        });
        Self {
            spec,
            meta: view.meta,
        }
    }
}

/// A label view, read for what its rows are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelView {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<LabelViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LabelViewSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) features: Vec<FeatureSpec>,
    #[prost(map = "string, string", tag = "5")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) ttl: Option<Duration>,
    #[prost(message, optional, tag = "7")]
    pub(crate) source: Option<DataSource>,
    #[prost(bool, tag = "8")]
    pub(crate) online: bool,
    #[prost(string, tag = "9")]
    pub(crate) description: String,
    #[prost(string, tag = "10")]
    pub(crate) owner: String,
    #[prost(message, repeated, tag = "11")]
    pub(crate) entity_columns: Vec<FeatureSpec>,
    /// How labels of several labelers become one; 0: the last one counts.
    #[prost(int32, tag = "13")]
    pub(crate) conflict_policy: i32,
}

impl From<LabelView> for FeatureView {
    fn from(view: LabelView) -> Self {
        let spec = view.spec.map(|spec| FeatureViewSpec {
            name: spec.name,
            project: spec.project,
            entities: spec.entities,
            features: spec.features,
            tags: spec.tags,
            ttl: spec.ttl,
            stream_source: spec.source.clone(),
            batch_source: spec.source,
            online: spec.online,
            description: spec.description,
            owner: spec.owner,
            entity_columns: spec.entity_columns,
            disabled: false,
        });
        Self {
            spec,
            meta: view.meta,
        }
    }
}
