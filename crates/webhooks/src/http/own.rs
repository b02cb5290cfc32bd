//! asgard's own routes of webhooks: of all events, those of jobs too, and the log of deliveries.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, Json, Path, Permission, Query, Routes, Timestamp};

use crate::Webhooks;
use crate::delivery::Delivery;
use crate::error::Error;
use crate::event::Event;
use crate::send::Outcome;
use crate::webhook::{NewWebhook, Status, Webhook};

#[derive(OpenApi)]
#[openapi(paths(
    create_webhook,
    list_webhooks,
    delete_webhook,
    test_webhook,
    list_webhook_deliveries
))]
struct Api;

/// The description of asgard's own routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

pub(super) fn add(routes: Routes<Webhooks>) -> Routes<Webhooks> {
    use Permission::ManageModels;
    routes
        .post("/mlops/webhooks", ManageModels, create_webhook)
        .get("/mlops/webhooks", ManageModels, list_webhooks)
        .delete("/mlops/webhooks/{webhook_id}", ManageModels, delete_webhook)
        .post(
            "/mlops/webhooks/{webhook_id}/test",
            ManageModels,
            test_webhook,
        )
        .get(
            "/mlops/webhooks/{webhook_id}/deliveries",
            ManageModels,
            list_webhook_deliveries,
        )
}

/// A webhook to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWebhookRequest {
    #[schema(example = "notify-ci")]
    name: String,
    #[schema(example = "https://ci.example.com/hooks/asgard")]
    url: String,
    /// `ENTITY.ACTION`, such as `job.completed`, `job.failed`, `model_version.created`.
    #[schema(example = json!(["job.completed", "job.failed"]))]
    events: Vec<String>,
    description: Option<String>,
    /// What deliveries are signed with; it never comes back.
    secret: Option<String>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
struct WebhookItem {
    webhook_id: String,
    name: String,
    description: Option<String>,
    url: String,
    events: Vec<String>,
    /// `ACTIVE` or `DISABLED`.
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Webhooks.
#[derive(Serialize, ToSchema)]
struct WebhooksResponse {
    webhooks: Vec<WebhookItem>,
    next_page_token: Option<String>,
}

/// An event on its way to a webhook.
#[derive(Serialize, ToSchema)]
struct DeliveryItem {
    delivery_id: String,
    #[schema(example = "job.completed")]
    event: String,
    /// `waiting`, `delivered` or `failed`.
    state: &'static str,
    attempts: i64,
    created_at: Timestamp,
    /// While it waits.
    next_attempt_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// The HTTP status of the last answer.
    response_status: Option<i64>,
    /// Why the last attempt failed.
    error: Option<String>,
    /// What is sent.
    body: String,
}

/// The deliveries of a webhook, the newest first.
#[derive(Serialize, ToSchema)]
struct DeliveriesResponse {
    deliveries: Vec<DeliveryItem>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListWebhooksQuery {
    /// The most webhooks to answer, 1 to 1000.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    page_token: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListDeliveriesQuery {
    /// The most deliveries to answer, 1 to 1000.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// What to test a webhook with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestWebhookRequest {
    /// `ENTITY.ACTION`; absent: the first of the webhook's events.
    #[schema(example = "job.completed")]
    event: Option<String>,
}

/// How a test ended.
#[derive(Serialize, ToSchema)]
struct WebhookTestResponse {
    /// Whether the receiver answered 2xx.
    success: bool,
    /// The HTTP status of its answer.
    response_status: Option<u16>,
    /// What it answered, at most 64 KiB.
    response_body: Option<String>,
    /// Why no answer came.
    error: Option<String>,
}

impl From<Outcome> for WebhookTestResponse {
    fn from(outcome: Outcome) -> Self {
        let success = outcome.is_success();
        let (response_status, response_body, error) = match outcome {
            Outcome::Answered { status, body, .. } => (Some(status), Some(body), None),
            Outcome::Failed { error, .. } => (None, None, Some(error)),
        };
        Self {
            success,
            response_status,
            response_body,
            error,
        }
    }
}

/// The event that `ENTITY.ACTION` names.
fn event(name: &str) -> Result<Event, Error> {
    let (entity, action) = name.split_once('.').unwrap_or((name, ""));
    Event::find(entity, action)
}

impl From<Webhook> for WebhookItem {
    fn from(webhook: Webhook) -> Self {
        Self {
            events: webhook.events.iter().map(Event::name).collect(),
            webhook_id: webhook.webhook_id,
            name: webhook.name,
            description: webhook.description,
            url: webhook.url,
            status: webhook.status.as_str(),
            created_at: Timestamp(webhook.created_at),
            updated_at: Timestamp(webhook.updated_at),
        }
    }
}

impl From<Delivery> for DeliveryItem {
    fn from(delivery: Delivery) -> Self {
        let waits = delivery.ended_at.is_none();
        Self {
            delivery_id: delivery.delivery_id,
            event: delivery.event,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            created_at: Timestamp(delivery.created_at),
            next_attempt_at: waits.then_some(Timestamp(delivery.next_attempt_at)),
            ended_at: delivery.ended_at.map(Timestamp),
            response_status: delivery.response_status,
            error: delivery.error,
            body: delivery.body,
        }
    }
}

/// Makes a webhook.
///
/// It is told of its events by signed POST requests (`X-MLflow-Signature`, `X-MLflow-Timestamp`,
/// `X-MLflow-Delivery-Id`), again and again with growing waits until it answers 2xx.
#[utoipa::path(post, path = "/mlops/webhooks", tag = "webhooks", request_body = CreateWebhookRequest,
    responses((status = 201, body = WebhookItem), (status = 400, description = "A name, URL or event that no webhook may have")))]
async fn create_webhook(
    State(webhooks): State<Webhooks>,
    Json(request): Json<CreateWebhookRequest>,
) -> Result<(StatusCode, Json<WebhookItem>), ApiError> {
    let new = NewWebhook {
        events: request
            .events
            .iter()
            .map(|name| event(name))
            .collect::<Result<_, Error>>()?,
        name: request.name,
        description: request.description,
        url: request.url,
        secret: request.secret,
        status: Status::Active,
    };
    let webhook = webhooks.create(new).await?;
    Ok((StatusCode::CREATED, Json(webhook.into())))
}

/// Lists the webhooks, the oldest first.
#[utoipa::path(get, path = "/mlops/webhooks", tag = "webhooks", params(ListWebhooksQuery),
    responses((status = 200, body = WebhooksResponse)))]
async fn list_webhooks(
    State(webhooks): State<Webhooks>,
    Query(query): Query<ListWebhooksQuery>,
) -> Result<Json<WebhooksResponse>, ApiError> {
    let page = webhooks.list(query.limit, query.page_token.as_deref());
    let (found, next_page_token) = page.await?;
    Ok(Json(WebhooksResponse {
        webhooks: found.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

/// Deletes a webhook; what waits for it is not delivered.
#[utoipa::path(delete, path = "/mlops/webhooks/{webhook_id}", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "The webhook")),
    responses((status = 204, description = "It is gone"), (status = 404, description = "There is no such webhook")))]
async fn delete_webhook(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    webhooks.delete(&webhook_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends an example of an event to a webhook, once, also to a disabled one.
#[utoipa::path(post, path = "/mlops/webhooks/{webhook_id}/test", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "The webhook")), request_body = TestWebhookRequest,
    responses((status = 200, body = WebhookTestResponse), (status = 404, description = "There is no such webhook")))]
async fn test_webhook(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
    Json(request): Json<TestWebhookRequest>,
) -> Result<Json<WebhookTestResponse>, ApiError> {
    let event = request.event.as_deref().map(event).transpose()?;
    Ok(Json(webhooks.test(&webhook_id, event).await?.into()))
}

/// Lists what was and is sent to a webhook, the newest first.
#[utoipa::path(get, path = "/mlops/webhooks/{webhook_id}/deliveries", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "The webhook"), ListDeliveriesQuery),
    responses((status = 200, body = DeliveriesResponse), (status = 404, description = "There is no such webhook")))]
async fn list_webhook_deliveries(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
    Query(query): Query<ListDeliveriesQuery>,
) -> Result<Json<DeliveriesResponse>, ApiError> {
    let found = webhooks.deliveries(&webhook_id, query.limit.unwrap_or(100));
    Ok(Json(DeliveriesResponse {
        deliveries: found.await?.into_iter().map(Into::into).collect(),
    }))
}
