//! The commands that write: rows into the table of a view, logs of what was served, and answers
//! that are kept as data sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use prost::Message as _;
use web::{Identity, Permission};

use super::{Command, named_table, unsupported};
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::feature_view::FeatureView;
use crate::proto;
use crate::table::{self, TableRef};

impl FeatureStore {
    /// Carries out a command that answers with nothing.
    ///
    /// # Errors
    /// When the caller may not write, or the rows do not fit; nothing is written then.
    pub(crate) async fn offline_write(
        &self,
        command: &Command,
        table: RecordBatch,
        caller: &Identity,
    ) -> Result<(), Error> {
        if command.api == "validate_data_source" {
            let table = named_table(&command.data_source_proto)?;
            return self.catalogs.table(&table).await.map(|_| ());
        }
        if !caller.may(Permission::WriteFeatures) {
            return Err(Error::Forbidden(format!(
                "{} may read features, and not write them: {} needs a key of the role runner",
                caller.label(),
                command.api
            )));
        }
        match command.api.as_str() {
            "offline_write_batch" => self.write_table(command, table).await,
            "write_logged_features" => self.write_logs(command, table).await,
            "persist" => self.persist(command, table, caller).await,
            other => Err(unsupported(other)),
        }
    }

    async fn write_table(&self, command: &Command, rows: RecordBatch) -> Result<(), Error> {
        let [name] = command.feature_view_names.as_slice() else {
            return Err(Error::Invalid(
                "offline_write_batch names one feature view".to_owned(),
            ));
        };
        let view = self.written_view(command.project(), name).await?;
        let into = view.table()?;
        let table = self.catalogs.table(into).await?;
        let there = table::columns(&table).into_iter().map(|column| column.name);
        let rows = named_as_columns(&view, &there.collect::<Vec<_>>(), rows)?;
        self.catalogs.append(into, rows).await.map(|_| ())
    }

    async fn write_logs(&self, command: &Command, rows: RecordBatch) -> Result<(), Error> {
        let name = &command.feature_service_name;
        let (_, row) = self
            .object_of(command.project(), Kind::FeatureService, name)
            .await?;
        let service = proto::LoggedService::decode(&*row.spec)?;
        let path = service
            .spec
            .and_then(|spec| spec.logging_config)
            .and_then(|config| config.file_destination)
            .map(|destination| destination.path);
        let into = path.as_deref().and_then(TableRef::parse_uri);
        let into = into.ok_or_else(|| {
            Error::Unsupported(format!(
                "feature service {name:?} logs into {:?}, which is no Iceberg table: use LoggingConfig(destination=FileLoggingDestination(path=\"iceberg://SCHEMA/TABLE\"))",
                path.unwrap_or_default()
            ))
        })?;
        self.catalogs.append(&into, rows).await.map(|_| ())
    }

    async fn persist(
        &self,
        command: &Command,
        rows: RecordBatch,
        caller: &Identity,
    ) -> Result<(), Error> {
        if command.retrieve_func != "get_historical_features" {
            // The SDK sends the source of other reads in the field of the place to write to.
            return Err(Error::Unsupported(format!(
                "what {} reads cannot be persisted: persist a job of get_historical_features",
                command.retrieve_func
            )));
        }
        let into = self.table_of_source(command).await?;
        let overwrite = command.allow_overwrite;
        self.catalogs.check_new(&into, overwrite).await?;
        let read = Command {
            api: command.retrieve_func.clone(),
            ..command.clone()
        };
        let answer = self.offline(&read, rows, caller).await?;
        self.catalogs
            .put(&into, answer.schema, answer.batches, overwrite)
            .await
    }
}

/// Rows under the names of the table's columns: the SDK sends them under those of the view.
fn named_as_columns(
    view: &FeatureView,
    there: &[String],
    rows: RecordBatch,
) -> Result<RecordBatch, Error> {
    let mapping: BTreeMap<&str, &str> = view
        .source
        .field_mapping
        .iter()
        .map(|(column, name)| (name.as_str(), column.as_str()))
        .collect();
    let schema = rows.schema();
    let fields = schema.fields().iter().map(|field| {
        let name = field.name().as_str();
        let column = match mapping.get(name) {
            Some(column) if !there.iter().any(|t| t == name) => *column,
            _ => name,
        };
        field.as_ref().clone().with_name(column)
    });
    let fields: Vec<Field> = fields.collect();
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        rows.columns().to_vec(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, MIGRATIONS};

    #[tokio::test]
    async fn a_job_and_a_viewer_may_not_write() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let rows = || RecordBatch::new_empty(Arc::new(Schema::empty()));
        let job = Identity::Job { job_id: "j".into() };
        let viewer = Identity::Key {
            id: "k".into(),
            name: "k".into(),
            role: web::Role::Viewer,
        };
        for api in ["offline_write_batch", "write_logged_features", "persist"] {
            let command = format!(r#"{{"api": "{api}"}}"#);
            let command = Command::parse(command.as_bytes()).unwrap();
            for caller in [&job, &viewer, &Identity::Anonymous] {
                let refused = store.offline_write(&command, rows(), caller).await;
                assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
            }
            let wrong = store
                .offline_write(&command, rows(), &Identity::Local)
                .await;
            assert!(
                !matches!(wrong, Ok(()) | Err(Error::Forbidden(_))),
                "{wrong:?}"
            );
        }
    }
}
