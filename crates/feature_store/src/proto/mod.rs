//! The protobuf messages of Feast that asgard looks into (field numbers of Feast 0.67, stable
//! since 0.40). Whole definitions are stored as the bytes that came: what these structs do not
//! name survives.

mod dataset;
mod on_demand;
mod service;
mod source;
mod view;

use std::collections::HashMap;

use prost::Message;

pub(crate) use dataset::{SavedDataset, ValidationReference};
pub(crate) use on_demand::{Function, OnDemandSource, OnDemandSpec, OnDemandView};
pub(crate) use service::{FeatureService, LoggedService, Projection};
pub(crate) use source::{DataSource, FileOptions};
pub(crate) use view::{FeatureSpec, FeatureView, FeatureViewSpec, LabelView, StreamView};

#[cfg(test)]
pub(crate) use {dataset::SavedDatasetSpec, service::FeatureServiceSpec, view::LabelViewSpec};

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl Timestamp {
    pub(crate) fn from_ms(ms: i64) -> Self {
        Self {
            seconds: ms.div_euclid(1000),
            nanos: ms.rem_euclid(1000) as i32 * 1_000_000,
        }
    }

    pub(crate) fn from_us(us: i64) -> Self {
        Self {
            seconds: us.div_euclid(1_000_000),
            nanos: us.rem_euclid(1_000_000) as i32 * 1000,
        }
    }

    pub(crate) fn us(self) -> i64 {
        self.seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(self.nanos) / 1000)
    }
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Duration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entity {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<EntitySpec>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntitySpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) value_type: i32,
    #[prost(string, tag = "3")]
    pub(crate) description: String,
    #[prost(string, tag = "4")]
    pub(crate) join_key: String,
    #[prost(map = "string, string", tag = "8")]
    pub(crate) tags: HashMap<String, String>,
    #[prost(string, tag = "9")]
    pub(crate) project: String,
    #[prost(string, tag = "10")]
    pub(crate) owner: String,
}

/// The `meta` of most definitions; intervals are there for feature views and stream views only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Meta {
    #[prost(message, optional, tag = "1")]
    pub(crate) created_timestamp: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last_updated_timestamp: Option<Timestamp>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) materialization_intervals: Vec<Interval>,
    /// How far a feature view or stream view is: `FeatureViewState`.
    #[prost(int32, tag = "6")]
    pub(crate) state: i32,
}

/// `FeatureViewState.AVAILABLE_ONLINE`.
pub(crate) const AVAILABLE_ONLINE: i32 = 4;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Interval {
    #[prost(message, optional, tag = "1")]
    pub(crate) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(crate) end_time: Option<Timestamp>,
}

/// A permission, read for its tags only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Permission {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<PermissionSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PermissionSpec {
    #[prost(map = "string, string", tag = "8")]
    pub(crate) tags: HashMap<String, String>,
}

/// A project, read for its tags only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Project {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<ProjectSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProjectSpec {
    #[prost(map = "string, string", tag = "3")]
    pub(crate) tags: HashMap<String, String>,
}

/// Any definition, read for its name only: `spec` (1) with `name` (1) stands in all but data
/// sources.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Named {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<NamedSpec>,
}

/// A definition, read for its `meta` only. On-demand views have other fields there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stamped {
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<Meta>,
}

/// An on-demand or stream feature view, read for its tags only.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tagged {
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<TaggedSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaggedSpec {
    #[prost(map = "string, string", tag = "7")]
    pub(crate) tags: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamedSpec {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// The bytes of a definition with another `meta`. A message that stands twice in protobuf is
/// merged, the later scalar winning and lists growing: nothing of the original is touched.
pub(crate) fn with_meta(mut bytes: Vec<u8>, meta: Meta) -> Vec<u8> {
    bytes.extend(Stamped { meta: Some(meta) }.encode_to_vec());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_survives_a_new_meta() {
        // A feature view with a field 15 (a pickled transformation) that these structs lack.
        #[derive(Clone, PartialEq, Message)]
        struct Newer {
            #[prost(string, tag = "1")]
            name: String,
            #[prost(bytes = "vec", tag = "15")]
            body: Vec<u8>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct NewerView {
            #[prost(message, optional, tag = "1")]
            spec: Option<Newer>,
            #[prost(message, optional, tag = "2")]
            meta: Option<Meta>,
        }
        let spec = Newer {
            name: "v".into(),
            body: vec![1, 2, 3],
        };
        let sent = NewerView {
            spec: Some(spec.clone()),
            meta: None,
        }
        .encode_to_vec();
        let created = Some(Timestamp::from_ms(5000));
        let kept = with_meta(
            sent,
            Meta {
                created_timestamp: created,
                ..Meta::default()
            },
        );
        let kept = with_meta(
            kept,
            Meta {
                last_updated_timestamp: created,
                ..Meta::default()
            },
        );
        let read = NewerView::decode(&*kept).unwrap();
        assert_eq!(read.spec, Some(spec));
        let meta = read.meta.unwrap();
        assert_eq!(
            (meta.created_timestamp, meta.last_updated_timestamp),
            (created, created)
        );
    }

    #[test]
    fn times_before_1970_are_times() {
        assert_eq!(Timestamp::from_ms(-1).us(), -1000);
        assert_eq!(
            Timestamp::from_ms(-1),
            Timestamp {
                seconds: -1,
                nanos: 999_000_000
            }
        );
    }
}
