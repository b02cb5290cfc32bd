//! On-demand feature views.

use std::collections::HashMap;

use prost::Message;

use super::{DataSource, FeatureSpec, FeatureView, Projection};

/// `OnDemandFeatureView`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OnDemandView {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<OnDemandSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OnDemandSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) features: Vec<FeatureSpec>,
    #[prost(map = "string, message", tag = "4")]
    pub(crate) sources: HashMap<String, OnDemandSource>,
    #[prost(message, optional, tag = "5")]
    pub(crate) function: Option<Function>,
    #[prost(message, optional, tag = "10")]
    pub(crate) feature_transformation: Option<Transformation>,
    #[prost(string, tag = "11")]
    pub(crate) mode: String,
    #[prost(bool, tag = "15")]
    pub(crate) singleton: bool,
    #[prost(bytes = "vec", repeated, tag = "16")]
    pub(crate) aggregations: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OnDemandSource {
    #[prost(message, optional, tag = "1")]
    pub(crate) feature_view: Option<FeatureView>,
    #[prost(message, optional, tag = "2")]
    pub(crate) request: Option<DataSource>,
    #[prost(message, optional, tag = "3")]
    pub(crate) projection: Option<Projection>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Transformation {
    #[prost(message, optional, tag = "1")]
    pub(crate) function: Option<Function>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) substrait: Option<Vec<u8>>,
}

/// `UserDefinedFunctionV2`: what dill made of a function, and its text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) body: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(crate) body_text: String,
}
