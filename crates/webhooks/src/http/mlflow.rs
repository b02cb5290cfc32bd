//! MLflow's routes of webhooks (`webhooks.proto`). Its clients read an enum that knows no jobs, so
//! webhooks of jobs alone are not shown here.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tracking::wire::{Choice, Empty, Int, List, MlflowRequest, MlflowResult, required};
use web::{Path, Permission, Routes};

use crate::Webhooks;
use crate::error::Error;
use crate::event::Event;
use crate::send::Outcome;
use crate::webhook::{NewWebhook, Status, Webhook, WebhookUpdate};

/// The entities and actions of `webhooks.proto`, by number.
const ENTITIES: [&str; 11] = [
    "",
    "registered_model",
    "model_version",
    "model_version_tag",
    "model_version_alias",
    "prompt",
    "prompt_version",
    "prompt_tag",
    "prompt_version_tag",
    "prompt_alias",
    "budget_policy",
];
const ACTIONS: [&str; 6] = ["", "created", "updated", "deleted", "set", "exceeded"];

/// The routes under one prefix, `/api` or `/ajax-api`. A URL may itself be a secret, so reading
/// takes as much as writing.
pub(super) fn add(routes: Routes<Webhooks>, prefix: &str) -> Routes<Webhooks> {
    use Permission::ManageModels;
    let all = format!("{prefix}/2.0/mlflow/webhooks");
    let one = format!("{all}/{{webhook_id}}");
    routes
        .post(&all, ManageModels, create)
        .get(&all, ManageModels, list)
        .get(&one, ManageModels, get)
        .patch(&one, ManageModels, update)
        .delete(&one, ManageModels, delete)
        .post(&format!("{one}/test"), ManageModels, test)
}

/// The same routes where an external MLflow server keeps the registry.
pub(super) fn add_elsewhere(routes: Routes<Webhooks>, prefix: &str) -> Routes<Webhooks> {
    use Permission::ManageModels;
    let all = format!("{prefix}/2.0/mlflow/webhooks");
    let one = format!("{all}/{{webhook_id}}");
    routes
        .post(&all, ManageModels, elsewhere)
        .get(&all, ManageModels, elsewhere)
        .get(&one, ManageModels, elsewhere)
        .patch(&one, ManageModels, elsewhere)
        .delete(&one, ManageModels, elsewhere)
        .post(&format!("{one}/test"), ManageModels, elsewhere)
}

async fn elsewhere() -> MlflowResult<Empty> {
    let message = "the webhooks of models are those of the MLflow server at tracking.uri, which this server passes requests on to: make them there; POST /mlops/webhooks here makes one that is told of jobs";
    Err(tracking::Error::NotImplemented(message.to_owned()).into())
}

#[derive(Deserialize)]
struct WebhookFields {
    name: Option<String>,
    description: Option<String>,
    url: Option<String>,
    secret: Option<String>,
    status: Option<Choice>,
    #[serde(default)]
    events: List<EventFields>,
}

#[derive(Deserialize)]
struct EventFields {
    entity: Option<Choice>,
    action: Option<Choice>,
}

#[derive(Deserialize)]
struct ListRequest {
    max_results: Option<Int>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct TestRequest {
    event: Option<EventFields>,
}

#[derive(Serialize)]
struct WebhookResponse {
    webhook: WebhookBody,
}

#[derive(Serialize)]
struct ListResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webhooks: Vec<WebhookBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct WebhookBody {
    webhook_id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    url: String,
    events: Vec<EventBody>,
    status: &'static str,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
}

#[derive(Serialize)]
struct EventBody {
    entity: String,
    action: String,
}

#[derive(Serialize)]
struct TestResponse {
    result: TestResult,
}

#[derive(Serialize)]
struct TestResult {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

impl From<Webhook> for WebhookBody {
    fn from(webhook: Webhook) -> Self {
        let events = webhook.events.iter().filter(|event| event.is_mlflows());
        let event = |event: &Event| EventBody {
            entity: event.entity.to_uppercase(),
            action: event.action.to_uppercase(),
        };
        Self {
            events: events.map(event).collect(),
            webhook_id: webhook.webhook_id,
            name: webhook.name,
            description: webhook.description,
            url: webhook.url,
            status: webhook.status.as_str(),
            creation_timestamp: webhook.created_at,
            last_updated_timestamp: webhook.updated_at,
        }
    }
}

impl EventFields {
    fn read(&self) -> Result<Event, Error> {
        let word = |choice: &Option<Choice>, words: &[&str]| match choice {
            Some(Choice::Name(name)) => name.clone(),
            Some(Choice::Number(number)) => {
                let word = usize::try_from(*number).ok().and_then(|n| words.get(n));
                word.map_or_else(|| number.to_string(), ToString::to_string)
            }
            None => String::new(),
        };
        Event::find(
            &word(&self.entity, &ENTITIES),
            &word(&self.action, &ACTIONS),
        )
    }
}

fn events(list: &List<EventFields>) -> Result<Vec<Event>, Error> {
    list.0.iter().map(EventFields::read).collect()
}

fn status(choice: Option<&Choice>) -> Result<Option<Status>, Error> {
    let status = match choice {
        None => return Ok(None),
        Some(Choice::Number(1)) => Some(Status::Active),
        Some(Choice::Number(2)) => Some(Status::Disabled),
        Some(Choice::Number(_)) => None,
        Some(Choice::Name(name)) => Status::parse(name),
    };
    let wrong = || Error::Invalid("Invalid webhook status: use ACTIVE or DISABLED".to_owned());
    status.ok_or_else(wrong).map(Some)
}

async fn create(
    State(webhooks): State<Webhooks>,
    MlflowRequest(request): MlflowRequest<WebhookFields>,
) -> MlflowResult<WebhookResponse> {
    let new = NewWebhook {
        events: events(&request.events)?,
        status: status(request.status.as_ref())?.unwrap_or_default(),
        name: required(request.name, "name")?,
        description: request.description,
        url: required(request.url, "url")?,
        secret: request.secret,
    };
    let webhook = webhooks.create(new).await?.into();
    Ok(Json(WebhookResponse { webhook }))
}

async fn list(
    State(webhooks): State<Webhooks>,
    MlflowRequest(request): MlflowRequest<ListRequest>,
) -> MlflowResult<ListResponse> {
    let max_results = request.max_results.map(|max| max.0);
    let page = webhooks.list(max_results, request.page_token.as_deref());
    let (mut found, next_page_token) = page.await?;
    found.retain(|webhook| webhook.events.iter().any(Event::is_mlflows));
    Ok(Json(ListResponse {
        webhooks: found.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

async fn get(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
) -> MlflowResult<WebhookResponse> {
    let webhook = webhooks.get(&webhook_id).await?.into();
    Ok(Json(WebhookResponse { webhook }))
}

async fn update(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
    MlflowRequest(request): MlflowRequest<WebhookFields>,
) -> MlflowResult<WebhookResponse> {
    let events = events(&request.events)?;
    let update = WebhookUpdate {
        status: status(request.status.as_ref())?,
        name: request.name,
        description: request.description,
        url: request.url,
        secret: request.secret,
        events: (!events.is_empty()).then_some(events),
    };
    let webhook = webhooks.update(&webhook_id, update).await?.into();
    Ok(Json(WebhookResponse { webhook }))
}

async fn delete(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
) -> MlflowResult<Empty> {
    webhooks.delete(&webhook_id).await?;
    Ok(Json(Empty {}))
}

async fn test(
    State(webhooks): State<Webhooks>,
    Path(webhook_id): Path<String>,
    MlflowRequest(request): MlflowRequest<TestRequest>,
) -> MlflowResult<TestResponse> {
    let event = request.event.map(|event| event.read()).transpose()?;
    let result = webhooks.test(&webhook_id, event).await?.into();
    Ok(Json(TestResponse { result }))
}

impl From<Outcome> for TestResult {
    fn from(outcome: Outcome) -> Self {
        let success = outcome.is_success();
        match outcome {
            Outcome::Answered { status, body, .. } => Self {
                success,
                response_status: Some(status),
                response_body: Some(body),
                error_message: None,
            },
            Outcome::Failed { error, .. } => Self {
                success,
                response_status: None,
                response_body: None,
                error_message: Some(format!("Failed to test webhook: {error}")),
            },
        }
    }
}
