//! The commands of Feast's remote offline store: JSON beside a table of entity rows.

mod answer;
mod uploads;
mod write;

pub(crate) use answer::Answer;
pub(crate) use uploads::{Held, UPLOAD_LIMIT, Upload, Uploads};

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use prost::Message as _;
use serde::Deserialize;
use web::{Identity, Timestamp};

use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::feature_view::{FeatureView, Source};
use crate::historical::{EntityRows, FeatureRef, HistoricalRequest, ViewUse, Views};
use crate::on_demand::OnDemandUse;
use crate::online::{LatestRequest, Span, parse_time};
use crate::proto;
use crate::registry::PROJECT;
use crate::table::{self, TableRef};

/// A command, as `feast/infra/offline_stores/remote.py` writes it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Command {
    /// Made by the client; names the upload in the calls that follow it.
    #[serde(default)]
    pub(crate) command_id: String,
    pub(crate) api: String,
    #[serde(default)]
    feature_view_names: Vec<String>,
    #[serde(default)]
    name_aliases: Vec<Option<String>>,
    #[serde(default)]
    feature_refs: Vec<String>,
    #[serde(default)]
    project: String,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    entity_df_sql: Option<String>,
    #[serde(default)]
    data_source_proto: String,
    #[serde(default)]
    data_source_name: String,
    #[serde(default)]
    join_key_columns: Vec<String>,
    #[serde(default)]
    feature_name_columns: Vec<String>,
    #[serde(default)]
    timestamp_field: String,
    #[serde(default)]
    created_timestamp_column: Option<String>,
    #[serde(default)]
    start_date: Option<String>,
    #[serde(default)]
    end_date: Option<String>,
    #[serde(default)]
    feature_service_name: String,
    /// The read whose answer is to be kept.
    #[serde(default)]
    retrieve_func: String,
    #[serde(default)]
    allow_overwrite: bool,
}

impl Command {
    /// Reads a Flight descriptor's command.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what does not fit.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::Invalid(format!(
                "the Flight command is no command of Feast's offline store: {error}"
            ))
        })
    }

    /// Whether the command is carried out when its table is uploaded, and answers nothing.
    pub(crate) fn is_write(&self) -> bool {
        matches!(
            self.api.as_str(),
            "offline_write_batch" | "write_logged_features" | "persist" | "validate_data_source"
        )
    }

    fn project(&self) -> &str {
        if self.project.is_empty() {
            PROJECT
        } else {
            &self.project
        }
    }

    /// The first and last time of the command, in microseconds.
    fn times(&self) -> Result<(Option<i64>, Option<i64>), Error> {
        let time = |text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| {
                parse_time(text).ok_or_else(|| Error::Invalid(format!("{text:?} is not ISO 8601")))
            })
            .transpose()
        };
        Ok((time(&self.start_date)?, time(&self.end_date)?))
    }
}

impl FeatureStore {
    /// Carries out a command that answers with a table.
    pub(crate) async fn offline(
        &self,
        command: &Command,
        table: RecordBatch,
        caller: &Identity,
    ) -> Result<Answer, Error> {
        Ok(match command.api.as_str() {
            "get_historical_features" if is_stand_in(&table) => {
                self.offline_range(command, caller).await?
            }
            "get_historical_features" => self.offline_historical(command, table, caller).await?,
            "get_table_column_names_and_types_from_data_source" => {
                Answer::whole(self.offline_columns(command).await?, None)
            }
            "pull_latest_from_table_or_query" | "pull_all_from_table_or_query" => {
                self.offline_latest(command).await?
            }
            other => return Err(unsupported(other)),
        })
    }

    async fn offline_historical(
        &self,
        command: &Command,
        table: RecordBatch,
        caller: &Identity,
    ) -> Result<Answer, Error> {
        let entities = EntityRows::new(table)?;
        let views = self
            .views_of(command, Some(&entities.column_names()))
            .await?;
        let request = HistoricalRequest {
            entities,
            views,
            full_feature_names: command.full_feature_names,
        };
        let found = self.historical_in_parts(request).await?;
        self.note_read(caller, &found.about, Timestamp::now().0)
            .await?;
        Answer::of(found)
    }

    async fn offline_latest(&self, command: &Command) -> Result<Answer, Error> {
        let table = self.table_of_source(command).await?;
        let (start_us, end_us) = command.times()?;
        let created = command.created_timestamp_column.clone();
        let request = LatestRequest {
            table,
            keys: command.join_key_columns.clone(),
            features: command.feature_name_columns.clone(),
            timestamp: command.timestamp_field.clone(),
            created: created.filter(|name| !name.is_empty()),
            span: Span {
                start_us,
                end_us: end_us.unwrap_or(i64::MAX),
            },
            all: command.api.starts_with("pull_all"),
        };
        let (rows, held) = self.latest(request).await?;
        Ok(Answer::whole(named_utc(rows)?, Some(held)))
    }

    /// The table of the command's data source: one of the registry, or a path that names a table.
    async fn table_of_source(&self, command: &Command) -> Result<TableRef, Error> {
        let name = &command.data_source_name;
        if let Some(table) = TableRef::parse_uri(name) {
            return Ok(table);
        }
        let (_, row) = self
            .object_of(command.project(), Kind::DataSource, name)
            .await?;
        let source = Source::from_proto(&proto::DataSource::decode(&*row.spec)?);
        source.table.ok_or_else(|| {
            Error::Unsupported(format!(
                "data source {name:?} is no Iceberg table: use FileSource(path=\"iceberg://SCHEMA/TABLE\", timestamp_field=...)"
            ))
        })
    }

    /// The views of a read; `columns` are those of its entity rows, if it has any.
    async fn views_of(
        &self,
        command: &Command,
        columns: Option<&[String]>,
    ) -> Result<Views, Error> {
        let mut found = Views::default();
        for (index, name) in command.feature_view_names.iter().enumerate() {
            let alias = command.name_aliases.get(index).cloned().flatten();
            let view = self.feature_view(command.project(), name).await?;
            let alias = alias.unwrap_or_else(|| name.clone());
            found.views.push(ViewUse::new(view, alias));
        }
        for text in &command.feature_refs {
            let asked = FeatureRef::parse(text)?;
            if let Some(used) = found.views.iter_mut().find(|used| used.alias == asked.view) {
                used.view.feature(&asked.feature)?;
                used.features.push(asked.feature);
            } else if let Some(used) = found
                .on_demand
                .iter_mut()
                .find(|used| used.alias == asked.view)
            {
                used.ask(&asked.feature)?;
            } else {
                let mut used = self.on_demand_of(command.project(), &asked).await?;
                used.ask(&asked.feature)?;
                found.on_demand.push(used);
            }
        }
        // What is named and not asked for has no columns, unless others are made of it.
        found.views.retain(|used| {
            let makes = |other: &OnDemandUse| {
                let mut sources = other.view.sources.iter();
                sources.any(|source| source.view == used.view.name)
            };
            !used.features.is_empty() || found.on_demand.iter().any(makes)
        });
        // Before it is asked which of them are the sources of on-demand views: those may be about
        // other entities.
        let named = found.views.len();
        for used in &mut found.views {
            let plain = used.alias == used.view.name
                && columns.is_none_or(|columns| {
                    used.view.join_keys.iter().all(|key| columns.contains(key))
                });
            if !plain {
                self.find_join_keys(command.project(), used, columns)
                    .await?;
            }
        }
        found = self.with_sources(command.project(), found).await?;
        // As Feast does, also where the client (before 0.67) names no feature of them.
        for used in &mut found.views[..named] {
            used.hidden = 0;
        }
        Ok(found)
    }

    /// The on-demand view of a reference: by its name, or by the alias that a feature service gives
    /// it. The request does not name these views.
    async fn on_demand_of(&self, project: &str, asked: &FeatureRef) -> Result<OnDemandUse, Error> {
        if let Some(view) = self.find_on_demand(project, &asked.view).await? {
            return Ok(OnDemandUse::new(view, asked.view.clone()));
        }
        for row in self.objects(project, Kind::FeatureService).await? {
            let service = proto::FeatureService::decode(&*row.spec)?;
            for projection in service.spec.map(|spec| spec.features).unwrap_or_default() {
                if projection.feature_view_name_alias != asked.view {
                    continue;
                }
                let name = &projection.feature_view_name;
                if let Some(view) = self.find_on_demand(project, name).await? {
                    return Ok(OnDemandUse::new(view, asked.view.clone()));
                }
            }
        }
        // The error lists the views that there are.
        self.object(project, Kind::FeatureView, &asked.view).await?;
        Err(Error::Invalid(format!(
            "feature {}:{} is of a view that the request does not name",
            asked.view, asked.feature
        )))
    }

    /// The names of a view's join keys in the entity rows: the request does not carry them, so
    /// they are taken from the feature service that has the view under this alias.
    async fn find_join_keys(
        &self,
        project: &str,
        used: &mut ViewUse,
        columns: Option<&[String]>,
    ) -> Result<(), Error> {
        for row in self.objects(project, Kind::FeatureService).await? {
            let service = proto::FeatureService::decode(&*row.spec)?;
            for projection in service.spec.map(|spec| spec.features).unwrap_or_default() {
                let alias = match projection.feature_view_name_alias.as_str() {
                    "" => &projection.feature_view_name,
                    alias => alias,
                };
                let has = |feature: &String| {
                    projection
                        .feature_columns
                        .iter()
                        .any(|column| column.name == *feature)
                };
                let named = projection.feature_view_name == used.view.name
                    && alias == used.alias
                    && used.features.iter().all(has);
                let fits =
                    columns.is_none_or(|columns| fits_columns(&used.view, &projection, columns));
                if named && (fits || used.alias != used.view.name) {
                    // Of those that do not fit, the error tells which column is missing.
                    used.join_key_map = projection.join_key_map.into_iter().collect();
                }
                if named && fits {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn offline_columns(&self, command: &Command) -> Result<RecordBatch, Error> {
        let name = named_table(&command.data_source_proto)?;
        let table = self.catalogs.table(&name).await?;
        let columns = table::columns(&table);
        let types = columns.iter().map(|c| Ok(pyarrow_name(&c.arrow_type()?)));
        let types = types.collect::<Result<Vec<_>, Error>>()?;
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("name", Arc::new(StringArray::from(names))),
            ("type", Arc::new(StringArray::from(types))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

fn unsupported(api: &str) -> Error {
    Error::Unsupported(format!("asgard's offline store does not do {api:?}"))
}

/// Whether a table stands for none: the SDK sends a column `key` in place of entity rows.
fn is_stand_in(table: &RecordBatch) -> bool {
    matches!(table.schema().fields().as_ref(), [only] if only.name() == "key")
}

fn fits_columns(view: &FeatureView, projection: &proto::Projection, columns: &[String]) -> bool {
    let named = |key: &String| projection.join_key_map.get(key).unwrap_or(key).clone();
    view.join_keys
        .iter()
        .all(|key| columns.contains(&named(key)))
}

/// The table in the text form of a data source.
fn named_table(text: &str) -> Result<TableRef, Error> {
    let start = text.find("iceberg://");
    let uri = start.map(|start| {
        let rest = &text[start..];
        rest.split(|c: char| c == '"' || c == '\\' || c.is_whitespace())
            .next()
            .unwrap_or(rest)
    });
    uri.and_then(TableRef::parse_uri).ok_or_else(|| {
        Error::Unsupported(
            "the data source names no Iceberg table: use FileSource(path=\"iceberg://SCHEMA/TABLE\", timestamp_field=...)".to_owned(),
        )
    })
}

/// The name that pyarrow gives a type.
fn pyarrow_name(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "bool".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary => "binary".to_owned(),
        DataType::Date32 => "date32[day]".to_owned(),
        DataType::Timestamp(_, None) => "timestamp[us]".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp[us, tz=UTC]".to_owned(),
        DataType::List(item) => format!("list<item: {}>", pyarrow_name(item.data_type())),
        other => other.to_string().to_ascii_lowercase(),
    }
}

/// Names the zone of times as pandas does.
fn named_utc(rows: RecordBatch) -> Result<RecordBatch, Error> {
    let schema = rows.schema();
    let named = schema.fields().iter().zip(rows.columns());
    let named = named.map(|(field, column)| {
        let named = in_named_utc(column)?;
        let field = match named.data_type() {
            same if same == field.data_type() => field.as_ref().clone(),
            kind => Field::new(field.name(), kind.clone(), true),
        };
        Ok((field, named))
    });
    let named = named.collect::<Result<Vec<_>, Error>>()?;
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = named.into_iter().unzip();
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

fn in_named_utc(column: &ArrayRef) -> Result<ArrayRef, Error> {
    match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let kind = DataType::Timestamp(*unit, Some("UTC".into()));
            let data = column.to_data().into_builder().data_type(kind).build()?;
            Ok(arrow_array::make_array(data))
        }
        DataType::List(item) if matches!(item.data_type(), DataType::Timestamp(_, Some(_))) => {
            let list = column.as_list::<i32>();
            let values = in_named_utc(list.values())?;
            let item = Field::new(item.name(), values.data_type().clone(), true);
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(
                Arc::new(item),
                offsets,
                values,
                nulls,
            )?))
        }
        _ => Ok(column.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_in_a_data_source_in_text() {
        let text = "type: BATCH_FILE\nfile_options {\n  uri: \"iceberg://gold/orders\"\n}\n";
        assert_eq!(
            named_table(text).unwrap().to_string(),
            "iceberg.gold.orders"
        );
        assert!(named_table("uri: \"s3://bucket/x\"").is_err());
    }

    #[test]
    fn a_command_that_is_none_is_told() {
        assert!(Command::parse(b"{}").is_err());
        assert!(Command::parse(b"\xff").is_err());
        assert_eq!(
            Command::parse(br#"{"api": "x", "new": 1}"#).unwrap().api,
            "x"
        );
    }
}
