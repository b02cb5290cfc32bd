//! Keys over HTTP: made, listed and ended by administrators.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{ApiError, Code, Json, Path, Permission, Role, Routes, Style, Timestamp};

use crate::key::{Error, Key, Keys};

pub(crate) fn routes(keys: Keys) -> Routes {
    Routes::new(Style::Asgard)
        .post("/mlops/keys", Permission::Administer, create)
        .get("/mlops/keys", Permission::Administer, list)
        .delete("/mlops/keys/{key}", Permission::Administer, revoke)
        .with_state(keys)
}

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKeyRequest {
    /// 1 to 64 letters, digits, `-`, `_` or `.`; unique among the keys that are valid.
    #[schema(example = "ci")]
    name: String,
    role: Role,
    /// How long the key is valid; absent: until it is revoked.
    #[serde(default)]
    expires_in_seconds: Option<u32>,
}

/// A key as it may be shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyResponse {
    id: String,
    name: String,
    role: Role,
    /// Whether it lets anyone in now.
    valid: bool,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// To the minute.
    last_used_at: Option<Timestamp>,
}

impl KeyResponse {
    pub(crate) fn new(key: Key, now: i64) -> Self {
        Self {
            valid: key.is_valid(now),
            id: key.id,
            name: key.name,
            role: key.role,
            created_at: Timestamp(key.created_at),
            expires_at: key.expires_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
            last_used_at: key.last_used_at.map(Timestamp),
        }
    }
}

/// A new key, with the text that is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreateKeyResponse {
    /// What to send as `Authorization: Bearer KEY`.
    key: String,
    #[serde(flatten)]
    about: KeyResponse,
}

impl CreateKeyResponse {
    pub(crate) fn new(key: Key, text: String, now: i64) -> Self {
        Self {
            key: text,
            about: KeyResponse::new(key, now),
        }
    }
}

/// All keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeysResponse {
    keys: Vec<KeyResponse>,
}

impl KeysResponse {
    pub(crate) fn new(keys: Vec<Key>, now: i64) -> Self {
        let keys = keys.into_iter().map(|k| KeyResponse::new(k, now)).collect();
        Self { keys }
    }
}

/// Makes an API key. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/mlops/keys", tag = "keys", request_body = CreateKeyRequest,
    responses((status = 201, body = CreateKeyResponse), (status = 409, description = "the name is taken")))]
pub(crate) async fn create(
    State(keys): State<Keys>,
    Json(request): Json<CreateKeyRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let now = Timestamp::now().0;
    let expires_at = request
        .expires_in_seconds
        .map(|seconds| now + i64::from(seconds) * 1000);
    let (key, text) = keys
        .create(&request.name, request.role, expires_at, now)
        .await?;
    tracing::info!(key = key.id, name = key.name, role = ?key.role, "key created");
    let body = CreateKeyResponse::new(key, text, now);
    Ok((StatusCode::CREATED, Json(body)))
}

/// Lists the keys, without their secrets.
#[utoipa::path(get, path = "/mlops/keys", tag = "keys", responses((status = 200, body = KeysResponse)))]
pub(crate) async fn list(State(keys): State<Keys>) -> Result<Json<KeysResponse>, ApiError> {
    let found = keys.list().await?;
    Ok(Json(KeysResponse::new(found, Timestamp::now().0)))
}

/// Ends a key at once.
#[utoipa::path(delete, path = "/mlops/keys/{key}", tag = "keys",
    params(("key" = String, Path, description = "the id or the name")),
    responses((status = 200, body = KeyResponse), (status = 404, description = "no such key")))]
pub(crate) async fn revoke(
    State(keys): State<Keys>,
    Path(key): Path<String>,
) -> Result<Json<KeyResponse>, ApiError> {
    let now = Timestamp::now().0;
    let key = keys.revoke(&key, now).await?;
    tracing::info!(key = key.id, name = key.name, "key revoked");
    Ok(Json(KeyResponse::new(key, now)))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NameTaken(_) => Code::AlreadyExists,
            Error::BadName(_) => Code::Unprocessable,
            Error::NotFound(_) => Code::NotFound,
            Error::Db(inner) if inner.is_full() => return Self::storage_full(&error),
            Error::Db(inner) if inner.is_refused_text() => return Self::nul(),
            Error::Db(inner) if inner.is_unavailable() => Code::Unavailable,
            Error::Random(_) | Error::Db(_) => return Self::internal(&error),
        };
        let answer = Self::new(code, error.to_string());
        match code {
            Code::AlreadyExists => answer.help("choose another name, or revoke that key first"),
            Code::NotFound => answer.help("'asgard keys list' shows the keys"),
            _ => answer,
        }
    }
}
