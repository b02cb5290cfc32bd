//! A feature view: which features, of which entities, out of which table, how long they hold.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dtype::Dtype;
use crate::error::Error;
use crate::proto;
use crate::table::TableRef;

/// The entity of views that have none, and its join key (`feast/feature_view.py`).
const DUMMY_ENTITY: &str = "__dummy";
const DUMMY_ENTITY_ID: &str = "__dummy_id";

/// `SourceType.BATCH_FILE`, the kind of source that every SDK version can read.
const BATCH_FILE: i32 = 1;
/// `SourceType.PUSH_SOURCE`.
const PUSH_SOURCE: i32 = 9;
const FILE_SOURCE_CLASS: &str = "feast.infra.offline_stores.file_source.FileSource";

/// A feature view.
#[derive(Debug, Clone)]
pub struct FeatureView {
    pub name: String,
    pub project: String,
    /// The names of its entities; none: the features hold for everything.
    pub entities: Vec<String>,
    /// The columns that say which entity a row is about.
    pub join_keys: Vec<String>,
    /// The types of the join keys, where the definition tells them.
    pub join_key_types: Vec<Dtype>,
    /// The push source that feeds it, if one does.
    pub push_source: Option<String>,
    pub features: Vec<Feature>,
    pub source: Source,
    /// How old a value may be, in microseconds; `None`: any age.
    pub ttl_us: Option<i64>,
    pub online: bool,
    /// Whether nothing is to be loaded or read online until it is enabled again.
    pub disabled: bool,
    pub tags: BTreeMap<String, String>,
    pub description: String,
    pub owner: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// The times that were materialized, in epoch microseconds.
    pub materialized: Vec<(i64, i64)>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub dtype: Dtype,
    /// Its column in the table: the name, unless the source maps another one to it.
    pub column: String,
}

/// Where a view's rows come from.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    /// Absent when the definition names something that is no table of asgard.
    pub table: Option<TableRef>,
    /// What the definition names, for messages.
    pub address: String,
    pub timestamp_column: String,
    pub created_column: Option<String>,
    /// Column of the table to name in the view.
    pub field_mapping: BTreeMap<String, String>,
}

impl Source {
    pub(crate) fn from_proto(source: &proto::DataSource) -> Self {
        // A stream or push source reads its history from its batch source.
        if let Some(batch) = &source.batch_source
            && source.file_options.is_none()
        {
            return Self::from_proto(batch);
        }
        let (table, address) = match (&source.file_options, &source.custom_options) {
            (Some(file), _) => (TableRef::parse_uri(&file.uri), file.uri.clone()),
            (None, Some(custom)) => iceberg_source(&custom.configuration),
            (None, None) => (None, source.name.clone()),
        };
        let created = &source.created_timestamp_column;
        Self {
            name: source.name.clone(),
            table,
            address,
            timestamp_column: source.timestamp_field.clone(),
            created_column: (!created.is_empty()).then(|| created.clone()),
            field_mapping: source.field_mapping.clone().into_iter().collect(),
        }
    }

    /// The table's column behind a name of the view.
    pub fn column_of(&self, name: &str) -> String {
        let mapped = self.field_mapping.iter().find(|(_, to)| *to == name);
        mapped.map_or(name, |(column, _)| column).to_owned()
    }
}

/// The table of Feast's own `IcebergSource` (0.65 and later): JSON in a custom option.
fn iceberg_source(configuration: &[u8]) -> (Option<TableRef>, String) {
    let value: Value = serde_json::from_slice(configuration).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let (Some(schema), Some(name)) = (text("namespace"), text("table")) else {
        return (None, "a custom source".to_owned());
    };
    let catalog = match text("catalog_name") {
        None => crate::table::LOCAL_CATALOG.to_owned(),
        // The name that the class gives when the user gives none.
        Some(name) if name == "feast_iceberg" => crate::table::LOCAL_CATALOG.to_owned(),
        Some(name) => name,
    };
    let table = TableRef {
        catalog,
        schema,
        name,
    };
    let address = table.uri();
    (Some(table), address)
}

impl FeatureView {
    /// # Errors
    /// When it is disabled.
    pub(crate) fn check_enabled(&self) -> Result<(), Error> {
        if self.disabled {
            return Err(Error::Invalid(format!(
                "feature view '{0}' is disabled; enable it first, with FeatureStore.enable_feature_view(\"{0}\")",
                self.name
            )));
        }
        Ok(())
    }

    /// Reads a stored definition.
    ///
    /// # Errors
    /// When the message has no spec.
    pub(crate) fn from_proto(view: &proto::FeatureView) -> Result<Self, Error> {
        let spec = view
            .spec
            .as_ref()
            .ok_or_else(|| Error::Invalid("the feature view has no spec".to_owned()))?;
        let source = spec
            .batch_source
            .as_ref()
            .or(spec.stream_source.as_ref())
            .map(Source::from_proto)
            .unwrap_or(Source {
                name: String::new(),
                table: None,
                address: "nothing".to_owned(),
                timestamp_column: String::new(),
                created_column: None,
                field_mapping: BTreeMap::new(),
            });
        let features = spec.features.iter().map(|feature| Feature {
            name: feature.name.clone(),
            dtype: Dtype::from_number(feature.value_type),
            column: source.column_of(&feature.name),
        });
        let keys = spec.entity_columns.iter();
        let keys = keys.filter(|column| column.name != DUMMY_ENTITY_ID);
        let key_types = keys.clone().map(|key| Dtype::from_number(key.value_type));
        let push_source = spec.stream_source.as_ref();
        let push_source = push_source.filter(|source| source.kind == PUSH_SOURCE);
        let ttl = spec.ttl.unwrap_or_default();
        let ttl_us = ttl.seconds.saturating_mul(1_000_000) + i64::from(ttl.nanos) / 1000;
        let meta = view.meta.clone().unwrap_or_default();
        let ms = |at: Option<proto::Timestamp>| at.map_or(0, |at| at.us().div_euclid(1000));
        let us = |at: Option<proto::Timestamp>| at.map_or(0, proto::Timestamp::us);
        let intervals = meta.materialization_intervals.iter();
        Ok(Self {
            name: spec.name.clone(),
            project: spec.project.clone(),
            entities: spec
                .entities
                .iter()
                .filter(|e| *e != DUMMY_ENTITY)
                .cloned()
                .collect(),
            join_key_types: key_types.collect(),
            join_keys: keys.map(|key| key.name.clone()).collect(),
            push_source: push_source.map(|source| source.name.clone()),
            features: features.collect(),
            ttl_us: (ttl_us > 0).then_some(ttl_us),
            online: spec.online,
            disabled: spec.disabled,
            tags: spec.tags.clone().into_iter().collect(),
            description: spec.description.clone(),
            owner: spec.owner.clone(),
            created_at: ms(meta.created_timestamp),
            updated_at: ms(meta.last_updated_timestamp),
            materialized: intervals
                .map(|i| (us(i.start_time), us(i.end_time)))
                .collect(),
            source,
        })
    }

    /// The table of the view.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it reads something that asgard does not.
    pub fn table(&self) -> Result<&TableRef, Error> {
        self.source.table.as_ref().ok_or_else(|| {
            Error::Unsupported(format!(
                "feature view '{}' reads {:?}, which is no Iceberg table that asgard knows; give it a FileSource with path \"iceberg://SCHEMA/TABLE\"",
                self.name, self.source.address
            ))
        })
    }

    /// The feature of that name.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`] lists the features.
    pub fn feature(&self, name: &str) -> Result<&Feature, Error> {
        let found = self.features.iter().find(|f| f.name == name);
        found.ok_or_else(|| Error::UnknownFeature {
            view: self.name.clone(),
            feature: name.to_owned(),
            known: self.features.iter().map(|f| f.name.clone()).collect(),
        })
    }
}

/// The message of a view that was defined over REST, in the form that every SDK reads.
pub(crate) fn to_proto(view: &FeatureView, join_key_types: &[Dtype]) -> proto::FeatureView {
    let field = |name: &str, dtype: Dtype| proto::FeatureSpec {
        name: name.to_owned(),
        value_type: dtype.number(),
        ..proto::FeatureSpec::default()
    };
    let keys = view.join_keys.iter().zip(join_key_types);
    let ttl_us = view.ttl_us.unwrap_or(0);
    let spec = proto::FeatureViewSpec {
        name: view.name.clone(),
        project: view.project.clone(),
        entities: view.entities.clone(),
        features: view
            .features
            .iter()
            .map(|f| field(&f.name, f.dtype))
            .collect(),
        tags: view.tags.clone().into_iter().collect(),
        ttl: Some(proto::Duration {
            seconds: ttl_us / 1_000_000,
            nanos: (ttl_us % 1_000_000) as i32 * 1000,
        }),
        batch_source: Some(source_to_proto(view)),
        online: view.online,
        disabled: view.disabled,
        description: view.description.clone(),
        owner: view.owner.clone(),
        entity_columns: keys.map(|(name, dtype)| field(name, *dtype)).collect(),
        ..proto::FeatureViewSpec::default()
    };
    proto::FeatureView {
        spec: Some(spec),
        meta: None,
    }
}

/// The data source of a view that was defined over REST.
pub(crate) fn source_to_proto(view: &FeatureView) -> proto::DataSource {
    proto::DataSource {
        kind: BATCH_FILE,
        name: view.source.name.clone(),
        project: view.project.clone(),
        class_type: FILE_SOURCE_CLASS.to_owned(),
        timestamp_field: view.source.timestamp_column.clone(),
        created_timestamp_column: view.source.created_column.clone().unwrap_or_default(),
        field_mapping: view.source.field_mapping.clone().into_iter().collect(),
        file_options: Some(proto::FileOptions {
            uri: view.source.address.clone(),
        }),
        ..proto::DataSource::default()
    }
}
