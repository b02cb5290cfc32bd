//! All SQL of this crate.

pub(crate) mod changes;
pub(crate) mod deployments;
pub(crate) mod endpoints;
pub(crate) mod environments;
pub(crate) mod logs;

use db::{Migration, Migrations};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "deploy",
    steps: &[
        Migration {
            name: "deployments, their endpoints and logs",
            sqlite: include_str!("migrations/1.sql"),
            postgres: include_str!("migrations/1.sql"),
        },
        Migration {
            name: "deployments in a cluster, with images and URLs",
            sqlite: include_str!("migrations/2.sql"),
            postgres: include_str!("migrations/2.sql"),
        },
        Migration::both(
            "how many lines a log has had",
            include_str!("migrations/3.sql"),
        ),
        Migration::both(
            "scripts are kept until they are trained, removed deployments for a time",
            include_str!("migrations/4.sql"),
        ),
    ],
};
