//! The tables of this crate in asgard's database.

use db::{Migration, Migrations};

/// The feature store's migrations.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "feature_store",
    steps: &[Migration {
        name: "definitions",
        sqlite: "CREATE TABLE feature_objects (
                project TEXT NOT NULL,
                kind TEXT NOT NULL,
                name TEXT NOT NULL,
                spec BLOB NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (project, kind, name)
            );",
        postgres: "CREATE TABLE feature_objects (
                project TEXT NOT NULL,
                kind TEXT NOT NULL,
                name TEXT NOT NULL,
                spec BYTEA NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (project, kind, name)
            );",
    }],
};
