//! The registry of an MLflow server.

use std::collections::BTreeMap;

use db::{Error, Row};
use registry::import::{ImportedAlias, ImportedTag};
use registry::{ModelVersion, RegisteredModel, Stage};

use super::Source;
use super::tracking::text;

/// The stage of versions that were deleted; their rows stay, so that numbers are not used again.
const DELETED: &str = "Deleted_Internal";

/// A version, and what asgard has no place for.
pub(crate) struct VersionRow {
    /// Its location is what the other server stored, unresolved.
    pub(crate) version: ModelVersion,
    pub(crate) deleted: bool,
    /// `READY`, unless something went wrong.
    pub(crate) status: String,
}

impl Source {
    pub(crate) async fn models<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<RegisteredModel>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "registered_models";
        let columns = [
            self.text(table, "name"),
            self.text(table, "description"),
            self.int(table, "creation_time"),
            self.int(table, "last_updated_time"),
        ];
        let rest = format!("WHERE {} ORDER BY 1", self.of_workspace(table));
        let read = |row: &Row| RegisteredModel {
            name: text(row, 0),
            description: text(row, 1),
            tags: BTreeMap::new(),
            aliases: BTreeMap::new(),
            latest_versions: Vec::new(),
            created_at: row.get::<Option<i64>, _>(2).unwrap_or_default(),
            updated_at: row.get::<Option<i64>, _>(3).unwrap_or_default(),
            job_id: None,
        };
        self.read(table, &columns, &rest, read, each).await
    }

    pub(crate) async fn versions<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<VersionRow>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "model_versions";
        let columns = [
            self.text(table, "name"),
            self.int(table, "version"),
            self.text(table, "source"),
            self.text(table, "storage_location"),
            self.text(table, "run_id"),
            self.text(table, "run_link"),
            self.text(table, "current_stage"),
            self.text(table, "description"),
            self.int(table, "creation_time"),
            self.int(table, "last_updated_time"),
            self.text(table, "status"),
        ];
        let rest = format!("WHERE {} ORDER BY 1, 2", self.of_workspace(table));
        self.read(table, &columns, &rest, version, each).await
    }

    /// The tags of models; or, with `of_versions`, those of versions.
    pub(crate) async fn model_tags<E: From<Error>>(
        &mut self,
        of_versions: bool,
        each: impl AsyncFnMut(Vec<ImportedTag>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = match of_versions {
            true => "model_version_tags",
            false => "registered_model_tags",
        };
        let columns = [
            self.text(table, "name"),
            self.int(table, "version"),
            self.text(table, "key"),
            self.text(table, "value"),
        ];
        let rest = format!("WHERE {}", self.of_workspace(table));
        let read = |row: &Row| ImportedTag {
            model: text(row, 0),
            version: row.get(1),
            key: text(row, 2),
            value: text(row, 3),
        };
        self.read(table, &columns, &rest, read, each).await
    }

    pub(crate) async fn aliases<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedAlias>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "registered_model_aliases";
        let columns = [
            self.text(table, "name"),
            self.text(table, "alias"),
            self.int(table, "version"),
        ];
        let rest = format!("WHERE {}", self.of_workspace(table));
        let read = |row: &Row| ImportedAlias {
            model: text(row, 0),
            alias: text(row, 1),
            version: row.get::<Option<i64>, _>(2).unwrap_or_default(),
        };
        self.read(table, &columns, &rest, read, each).await
    }
}

fn version(row: &Row) -> VersionRow {
    let source = text(row, 2);
    let stored = row.get::<Option<String>, _>(3);
    let stage = text(row, 6);
    let logged = source
        .strip_prefix("models:/")
        .filter(|id| id.starts_with("m-"));
    VersionRow {
        deleted: stage == DELETED,
        status: text(row, 10),
        version: ModelVersion {
            name: text(row, 0),
            version: row.get::<Option<i64>, _>(1).unwrap_or_default(),
            model_id: logged.map(str::to_owned),
            location: stored.filter(|at| !at.is_empty()).unwrap_or(source.clone()),
            source,
            run_id: row.get::<Option<String>, _>(4).filter(|id| !id.is_empty()),
            run_link: row
                .get::<Option<String>, _>(5)
                .filter(|link| !link.is_empty()),
            job_id: None,
            stage: Stage::parse(&stage).unwrap_or_default(),
            description: text(row, 7),
            tags: BTreeMap::new(),
            aliases: Vec::new(),
            created_at: row.get::<Option<i64>, _>(8).unwrap_or_default(),
            updated_at: row.get::<Option<i64>, _>(9).unwrap_or_default(),
        },
    }
}
