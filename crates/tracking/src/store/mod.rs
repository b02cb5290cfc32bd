//! All SQL of tracking, a file per noun.

pub(crate) mod assessments;
pub(crate) mod datasets;
pub(crate) mod evaluation_datasets;
pub(crate) mod evaluation_records;
pub(crate) mod experiments;
pub(crate) mod imports;
pub(crate) mod logged_model_search;
pub(crate) mod logged_models;
pub(crate) mod metrics;
pub(crate) mod new_runs;
mod record_lists;
pub(crate) mod records;
pub(crate) mod removals;
pub(crate) mod run_points;
pub(crate) mod runs;
pub(crate) mod scorers;
pub(crate) mod search;
mod search_access;
mod search_assessments;
pub(crate) mod search_traces;
pub(crate) mod spans;
pub(crate) mod stamps;
mod statement;
pub(crate) mod tags;
pub(crate) mod trace_links;
pub(crate) mod traces;

use db::{Backend, Migration, Migrations};

/// The tables of tracking.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "tracking",
    steps: &[
        Migration {
            name: "tracking",
            sqlite: include_str!("schema.sqlite.sql"),
            postgres: include_str!("schema.postgres.sql"),
        },
        Migration::both("search by value", include_str!("search_by_value.sql")),
        Migration::both("removed folders", include_str!("2_removed_folders.sql")),
        Migration {
            name: "spans",
            sqlite: include_str!("spans.sqlite.sql"),
            postgres: include_str!("spans.postgres.sql"),
        },
        Migration::both("settled values", include_str!("settled_values.sql")),
        Migration::both("stamps of an external server", include_str!("stamps.sql")),
        Migration {
            name: "evaluation",
            sqlite: include_str!("evaluation.sqlite.sql"),
            postgres: include_str!("evaluation.postgres.sql"),
        },
        Migration::both("texts of spans", include_str!("span_texts.sql")),
        Migration {
            name: "points without a foreign key",
            sqlite: include_str!("points.sqlite.sql"),
            postgres: include_str!("points.postgres.sql"),
        },
    ],
};

/// A list of numbers as one bound value, so that the statement's text is the same for any length.
pub(crate) struct Ids(String);

impl Ids {
    pub(crate) fn of(ids: impl IntoIterator<Item = i64>) -> Self {
        let texts: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
        Self(format!("[{}]", texts.join(",")))
    }

    /// The value to bind.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// What stands in `IN (...)`, the value bound as `$placeholder`.
    pub(crate) fn select(&self, backend: Backend, placeholder: usize) -> String {
        match backend {
            Backend::Sqlite => format!("SELECT value FROM json_each(${placeholder})"),
            Backend::Postgres => format!(
                "SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(${placeholder} AS JSON))"
            ),
        }
    }
}

impl Ids {
    /// A table `ids` with the numbers as its `value`, bound as `$placeholder`. SQLite reads the tables
    /// of a CROSS JOIN in the order in which they stand: from the numbers to their rows, without
    /// the index of the numbers that it makes for an `IN`.
    pub(crate) fn table(&self, backend: Backend, placeholder: usize) -> String {
        match backend {
            Backend::Sqlite => format!("json_each(${placeholder}) ids"),
            Backend::Postgres => format!("({}) ids(value)", self.select(backend, placeholder)),
        }
    }
}

/// A list of texts as one bound value.
pub(crate) struct Texts(String);

impl Texts {
    pub(crate) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let list: Vec<&str> = texts.into_iter().collect();
        Self(serde_json::Value::from(list).to_string())
    }

    /// The value to bind.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// What stands in `IN (...)`, the value bound as `$placeholder`.
    pub(crate) fn select(&self, backend: Backend, placeholder: usize) -> String {
        match backend {
            Backend::Sqlite => format!("SELECT value FROM json_each(${placeholder})"),
            Backend::Postgres => {
                format!("SELECT json_array_elements_text(CAST(${placeholder} AS JSON))")
            }
        }
    }
}

/// `($1, $2), ($3, $4)` for 2 rows of 2 columns, the first values of a statement. SQLite looks the
/// name of each placeholder up in a list, which takes longer than the insert when there are
/// hundreds: there they have no names.
pub(crate) fn rows_of_values(backend: Backend, rows: usize, columns: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            match backend {
                Backend::Sqlite => write!(text, "{comma}?"),
                Backend::Postgres => write!(text, "{comma}${}", row * columns + column + 1),
            }
            .expect("a String takes all text");
        }
        text.push(')');
    }
    text
}
