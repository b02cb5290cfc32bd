//! Webhooks: who is told of what, and the telling.
//!
//! Invariants: an event and its deliveries are rows of the transaction that made it happen, so
//! neither is ever without the other; a delivery ends as delivered or as failed, whatever is
//! killed; what is sent is signed; nothing is sent to an address of the inner network unless the
//! configuration allows it, and no redirect is followed; a secret never comes back, and lies in the
//! database sealed with a key that does not.

mod config;
mod delivery;
mod destination;
mod error;
mod event;
mod http;
mod send;
mod store;
mod webhook;
mod work;

pub use config::Config;
pub use delivery::{Delivery, State};
pub use error::Error;
pub use event::Event;
pub use http::{openapi, routes, routes_beside_external};
pub use store::MIGRATIONS;
pub use webhook::{NewWebhook, Status, Webhook, WebhookUpdate};

use std::sync::Arc;

use db::{Db, Seal};
use tokio::sync::Notify;

/// The handle of webhooks; cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    db: Db,
    config: Config,
    sender: send::Sender,
    seal: Seal,
    /// Another server keeps the registry, and tells of it.
    only_jobs: bool,
    /// Somebody has put a delivery in.
    arrived: Arc<Notify>,
}

impl Webhooks {
    /// Webhooks on a migrated database.
    pub fn new(db: Db, config: Config, seal: Seal) -> Self {
        Self {
            sender: send::Sender::new(&config),
            seal,
            db,
            config,
            only_jobs: false,
            arrived: Arc::default(),
        }
    }
}
