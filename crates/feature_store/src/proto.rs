//! The protobuf messages of Feast that asgard looks into (field numbers of Feast 0.67, stable
//! since 0.40). Whole definitions are stored as the bytes that came: what these structs do not
//! name survives.

use std::collections::HashMap;

use prost::Message;

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
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Interval {
    #[prost(message, optional, tag = "1")]
    pub(crate) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(crate) end_time: Option<Timestamp>,
}

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
        });
        Self {
            spec,
            meta: view.meta,
        }
    }
}

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
