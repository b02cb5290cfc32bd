//! `POST /mlops/gc`: removing for good what is in the bin.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{ApiError, Json, Permission, Routes, Style, Timestamp};

use crate::gc::{Collector, Item, Order, Outcome, Page};

/// How long things stay in the bin when nobody says otherwise: 30 days.
pub(crate) const GRACE_SECONDS: u32 = 30 * 86_400;

pub(crate) fn routes(collector: Collector) -> Routes {
    Routes::new(Style::Asgard)
        .post("/mlops/gc", Permission::Administer, collect)
        .with_state(collector)
}

/// What to remove.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectRequest {
    /// Only tell what would be removed.
    #[serde(default)]
    dry_run: bool,
    /// Only what was deleted at least so long ago; absent: 30 days.
    #[serde(default)]
    older_than_seconds: Option<u32>,
    /// The `next` of the answer before; absent: from the beginning.
    #[serde(default)]
    after: Option<String>,
}

/// One page of what was in the bin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectResponse {
    items: Vec<CollectedItem>,
    /// What to send as `after` to go on; null when all is done.
    next: Option<String>,
}

/// A thing that was in the bin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectedItem {
    /// `run`, `logged_model`, `experiment`, or `files` that an interrupted removal left.
    kind: &'static str,
    id: String,
    name: String,
    deleted_at: Option<Timestamp>,
    files: u64,
    size_bytes: u64,
    /// Whether it is gone; in a dry run, whether it would be.
    removed: bool,
    /// Why it stays.
    kept: Option<String>,
}

impl From<Item> for CollectedItem {
    fn from(item: Item) -> Self {
        Self {
            kind: item.kind,
            id: item.id,
            name: item.name,
            deleted_at: item.deleted_at.map(Timestamp),
            files: item.extent.files,
            size_bytes: item.extent.size_bytes,
            removed: item.outcome == Outcome::Removed,
            kept: match item.outcome {
                Outcome::Removed => None,
                Outcome::Kept(reason) => Some(reason),
            },
        }
    }
}

impl CollectRequest {
    pub(crate) fn new(dry_run: bool, older_than_seconds: u32, after: Option<String>) -> Self {
        Self {
            dry_run,
            older_than_seconds: Some(older_than_seconds),
            after,
        }
    }

    pub(crate) fn order(self, now: i64) -> Order {
        let grace = self.older_than_seconds.unwrap_or(GRACE_SECONDS);
        Order {
            dry_run: self.dry_run,
            before: now - i64::from(grace) * 1000,
            after: self.after.unwrap_or_default(),
        }
    }
}

impl From<Page> for CollectResponse {
    fn from(page: Page) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next: page.next,
        }
    }
}

/// Removes for good what was deleted long ago, a page at a time: runs, logged models,
/// experiments, and their files. What a registered version uses stays.
#[utoipa::path(post, path = "/mlops/gc", tag = "platform", request_body = CollectRequest,
    responses((status = 200, body = CollectResponse)))]
pub(crate) async fn collect(
    State(collector): State<Collector>,
    Json(request): Json<CollectRequest>,
) -> Result<Json<CollectResponse>, ApiError> {
    let page = collector.page(&request.order(Timestamp::now().0)).await?;
    Ok(Json(page.into()))
}
