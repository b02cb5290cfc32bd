//! The tables of an MLflow server, as 2.x and 3.x made them, read a list at a time.

mod evaluation;
mod registry;
mod traces;
mod tracking;

use std::collections::{BTreeMap, BTreeSet};

use db::{Backend, Error, Foreign, Row, query};

/// How many rows are held at once.
pub(crate) const ROWS: usize = 2_000;

/// The one workspace that asgard has a place for.
const WORKSPACE: &str = "default";

/// An MLflow database; every list of one source tells of the same moment.
pub(crate) struct Source {
    db: Foreign,
    /// The columns of each table.
    tables: BTreeMap<String, BTreeSet<String>>,
}

impl Source {
    /// Looks at which tables there are; `None` when it is no store of MLflow.
    pub(crate) async fn open(url: &str) -> Result<Option<Self>, Error> {
        let mut db = Foreign::open(url).await?;
        let sql = match db.backend() {
            Backend::Sqlite => {
                "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c
                 WHERE t.type = 'table'"
            }
            Backend::Postgres => {
                "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT)
                 FROM information_schema.columns WHERE table_schema = current_schema()"
            }
        };
        let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
        for row in query(sql).fetch_all(&mut db).await? {
            tables.entry(row.get(0)).or_default().insert(row.get(1));
        }
        let is_mlflow = ["experiments", "runs", "metrics", "alembic_version"]
            .iter()
            .all(|table| tables.contains_key(*table));
        Ok(is_mlflow.then_some(Self { db, tables }))
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.tables
            .get(table)
            .is_some_and(|columns| columns.contains(column))
    }

    /// A column of numbers, whatever its width; nulls where this version of MLflow had none.
    fn int(&self, table: &str, column: &str) -> String {
        self.cast(table, column, "BIGINT")
    }

    /// A column of text; nulls where this version of MLflow had none.
    fn text(&self, table: &str, column: &str) -> String {
        self.cast(table, column, "TEXT")
    }

    fn cast(&self, table: &str, column: &str, kind: &str) -> String {
        match self.has(table, column) {
            true => format!("CAST({table}.{column} AS {kind})"),
            false => format!("CAST(NULL AS {kind})"),
        }
    }

    /// A condition for the rows of the default workspace; servers of 2.x have no others.
    fn of_workspace(&self, table: &str) -> String {
        match self.has(table, "workspace") {
            true => format!("{table}.workspace = '{WORKSPACE}'"),
            false => "1 = 1".to_owned(),
        }
    }

    /// Reads `what` from a table, a list at a time; a table that is not there has no rows.
    async fn read<T, E: From<Error>>(
        &mut self,
        table: &str,
        what: &[String],
        rest: &str,
        item: impl Fn(&Row) -> T,
        mut each: impl AsyncFnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.tables.contains_key(table) {
            return Ok(());
        }
        let sql = format!("SELECT {} FROM {table} {rest}", what.join(", "));
        let rows = async |rows: Vec<Row>| each(rows.iter().map(&item).collect()).await;
        query(sql).in_chunks(&mut self.db, ROWS, rows).await
    }

    async fn count(&mut self, table: &str, condition: &str) -> Result<u64, Error> {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {condition}");
        let row = query(sql).fetch_one(&mut self.db).await?;
        Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or_default())
    }

    /// The tables that hold something and that asgard has no place for, with how much.
    pub(crate) async fn without_a_place(&mut self) -> Result<Vec<(String, u64)>, Error> {
        let names: Vec<String> = self.tables.keys().cloned().collect();
        let mut left = Vec::new();
        for table in names
            .iter()
            .filter(|table| !KNOWN.contains(&table.as_str()))
        {
            let rows = self.count(&format!("\"{table}\""), "1 = 1").await?;
            if rows > 0 {
                left.push((table.clone(), rows));
            }
        }
        for table in ["experiments", "registered_models", "evaluation_datasets"] {
            if self.has(table, "workspace") {
                let elsewhere = format!("workspace <> '{WORKSPACE}'");
                let rows = self.count(table, &elsewhere).await?;
                if rows > 0 {
                    left.push((format!("{table} of other workspaces"), rows));
                }
            }
        }
        Ok(left)
    }
}

/// The tables that are read, and those that say nothing of their own.
const KNOWN: &[&str] = &[
    "alembic_version",
    "assessments",
    "datasets",
    "entity_associations",
    "evaluation_dataset_records",
    "evaluation_dataset_tags",
    "evaluation_datasets",
    "experiment_tags",
    "experiments",
    "input_tags",
    "inputs",
    "job_locks",
    "latest_metrics",
    "logged_model_metrics",
    "logged_model_params",
    "logged_model_tags",
    "logged_models",
    "metrics",
    "model_version_tags",
    "model_versions",
    "params",
    "registered_model_aliases",
    "registered_model_tags",
    "registered_models",
    "runs",
    "scheduler_leases",
    "scorer_versions",
    "scorers",
    "span_metrics",
    "spans",
    "sql_assessment_daily_rollups",
    "sql_span_cost_daily_rollups",
    "sql_trace_metric_daily_rollups",
    "sql_trace_rollup_rebuild_queue",
    "sqlite_sequence",
    "tags",
    "trace_info",
    "trace_metrics",
    "trace_request_metadata",
    "trace_tags",
    "workspaces",
];
