//! All SQL of this crate.

pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod queue;

use db::{Migration, Migrations};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "jobs",
    steps: &[
        Migration {
            name: "jobs and their logs",
            sqlite: include_str!("migrations/1_sqlite.sql"),
            postgres: include_str!("migrations/1_postgres.sql"),
        },
        Migration::both(
            "what the uploader might",
            "ALTER TABLE training_jobs ADD COLUMN may_promote BOOLEAN NOT NULL DEFAULT FALSE;",
        ),
        Migration::both(
            "sealed variables",
            "ALTER TABLE training_jobs ADD COLUMN sealed_variables TEXT;
             CREATE INDEX training_jobs_plain ON training_jobs (job_id)
                 WHERE sealed_variables IS NULL;",
        ),
    ],
};
