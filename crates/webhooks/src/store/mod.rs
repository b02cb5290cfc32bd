//! All SQL of webhooks, a file per noun.

pub(crate) mod deliveries;
pub(crate) mod webhooks;

use db::{Migration, Migrations};

/// The tables of webhooks.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "webhooks",
    steps: &[
        Migration::both("webhooks", include_str!("schema.sql")),
        Migration::both("sealed secrets", include_str!("sealed_secrets.sql")),
    ],
};
