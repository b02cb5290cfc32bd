//! The tables of this crate in asgard's database.

use db::{Migration, Migrations};

/// The feature store's migrations.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "feature_store",
    steps: &[DEFINITIONS, HISTORY, ONLINE, USES],
};

const DEFINITIONS: Migration = Migration {
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
};

const HISTORY: Migration = Migration {
    name: "loads and reads of views",
    sqlite: HISTORY_TABLES,
    postgres: HISTORY_TABLES,
};

const HISTORY_TABLES: &str = "CREATE TABLE feature_loads (
        id TEXT NOT NULL,
        project TEXT NOT NULL,
        view TEXT NOT NULL,
        mode TEXT NOT NULL,
        snapshot_id BIGINT,
        start_us BIGINT,
        end_us BIGINT NOT NULL,
        rows_read BIGINT NOT NULL,
        entities_written BIGINT NOT NULL,
        started_at BIGINT NOT NULL,
        duration_ms BIGINT NOT NULL,
        error TEXT,
        PRIMARY KEY (project, view, id)
    );
    CREATE TABLE feature_reads (
        project TEXT NOT NULL,
        view TEXT NOT NULL,
        job_id TEXT NOT NULL,
        snapshot_id BIGINT NOT NULL,
        read_at BIGINT NOT NULL,
        PRIMARY KEY (project, view, job_id, snapshot_id)
    );";

const ONLINE: Migration = Migration {
    name: "online values that servers share",
    sqlite:
        "CREATE TABLE feature_online_views (view TEXT NOT NULL PRIMARY KEY, about TEXT NOT NULL);
        CREATE TABLE feature_online_rows (
            view TEXT NOT NULL,
            entity_key BLOB NOT NULL,
            us BIGINT NOT NULL,
            created BIGINT,
            content BLOB NOT NULL,
            PRIMARY KEY (view, entity_key)
        );",
    postgres:
        "CREATE TABLE feature_online_views (view TEXT NOT NULL PRIMARY KEY, about TEXT NOT NULL);
        CREATE TABLE feature_online_rows (
            view TEXT NOT NULL,
            entity_key BYTEA NOT NULL,
            us BIGINT NOT NULL,
            created BIGINT,
            content BYTEA NOT NULL,
            PRIMARY KEY (view, entity_key)
        );",
};

const USES: Migration = Migration {
    name: "models that ask for features, and loads under way",
    sqlite: USES_TABLES,
    postgres: USES_TABLES,
};

const USES_TABLES: &str = "CREATE TABLE feature_model_uses (
        project TEXT NOT NULL,
        view TEXT NOT NULL,
        model_name TEXT NOT NULL,
        model_version BIGINT NOT NULL,
        first_used_at BIGINT NOT NULL,
        used_at BIGINT NOT NULL,
        PRIMARY KEY (project, view, model_name, model_version)
    );
    ALTER TABLE feature_loads ADD COLUMN lease_until BIGINT;";
