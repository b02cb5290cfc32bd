//! All SQL of the registry, a file per noun.

pub(crate) mod aliases;
pub(crate) mod imports;
pub(crate) mod models;
pub(crate) mod search;
pub(crate) mod versions;

use db::{Migration, Migrations};

/// The tables of the registry.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "registry",
    steps: &[
        Migration {
            name: "registry",
            sqlite: include_str!("store/schema.sqlite.sql"),
            postgres: include_str!("store/schema.postgres.sql"),
        },
        Migration::both(
            "versions by their place",
            "CREATE INDEX model_versions_by_location ON model_versions (location);",
        ),
    ],
};

/// Reads a JSON text that the database made of several rows; no rows are nothing.
fn aggregated<T: serde::de::DeserializeOwned + Default>(text: Option<String>) -> T {
    match text {
        None => T::default(),
        Some(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("the database aggregates to valid JSON: {error}");
        }),
    }
}
