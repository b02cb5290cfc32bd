//! MLflow's registry routes when an external server answers them.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tracking::{External, JOB_TAG, JobWrite, Kind};
use web::{ApiError, Caller, MlflowError, Permission, RouteEntry, Routes, Style};

use crate::Registry;
use crate::error::Error;
use crate::external::stamp_id;
use crate::name;

/// The longest answer to the making of a version: it holds the version's tags.
const ANSWER_BYTES: usize = 16 << 20;

/// The same routes with the same permissions as the embedded registry has.
pub(super) fn routes(embedded: &[RouteEntry]) -> Routes<Registry> {
    let none = Routes::new(Style::Mlflow);
    embedded.iter().fold(none, |routes, entry| {
        let (method, path) = (entry.method.clone(), entry.path.as_str());
        match entry.permission {
            Permission::ReadTracking => routes.route(method, path, entry.permission, read),
            permission => routes.route(method, path, permission, write),
        }
    })
}

async fn read(State(registry): State<Registry>, request: Request) -> Result<Response, Failed> {
    let external = of(&registry)?;
    Ok(external.forward(request).await?)
}

async fn write(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, Failed> {
    let external = of(&registry)?;
    let makes_version = request.uri().path().ends_with("/model-versions/create");
    let answered = match caller.job_id() {
        None if makes_version => create_version(&registry, external, request).await,
        None => external.forward(request).await.map_err(Failed::from),
        Some(job_id) => write_as_job(&registry, external, job_id, &caller, request).await,
    };
    // Also after a failure: the change may have been made.
    registry.changed();
    answered
}

/// Passes on what registers a version, and tells of the version: its files are there.
async fn create_version(
    registry: &Registry,
    external: &External,
    request: Request,
) -> Result<Response, Failed> {
    let (head, body) = external.forward(request).await?.into_parts();
    let body = to_bytes(body, ANSWER_BYTES).await.map_err(|error| {
        let message = format!("its answer broke off: {error}");
        tracking::Error::ExternalAnswer {
            url: external.url().to_owned(),
            status: head.status.as_u16(),
            error_code: None,
            message,
        }
    })?;
    if head.status.is_success()
        && let Some((name, version)) = made(&body)
    {
        registry.announce(&name, version);
    }
    Ok(Response::from_parts(head, Body::from(body)))
}

/// The version that an answer tells of.
fn made(answer: &[u8]) -> Option<(String, i64)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let made = &answer["model_version"];
    let version = match &made["version"] {
        Value::String(text) => text.parse().ok()?,
        number => number.as_i64()?,
    };
    Some((made["name"].as_str()?.to_owned(), version))
}

/// Passes on what a job writes, where that is its own; what is not named here is refused.
async fn write_as_job(
    registry: &Registry,
    external: &External,
    job_id: &str,
    caller: &web::Identity,
    request: Request,
) -> Result<Response, Failed> {
    let promotes = request.method() == Method::POST;
    let path = request.uri().path().to_owned();
    let route = path.split("/mlflow/").nth(1).unwrap_or_default().to_owned();
    let mut write = JobWrite::read(request).await?;
    let model = write.text("name");
    match route.as_str() {
        "registered-models/create" => {
            return Ok(external
                .create(Kind::RegisteredModel, job_id, write)
                .await?);
        }
        "registered-models/update" | "registered-models/set-tag" => {
            external
                .check_made(caller, Kind::RegisteredModel, &model)
                .await?;
        }
        "model-versions/create" => {
            let tags = write.fields.get("tags").and_then(Value::as_array);
            for tag in tags.into_iter().flatten() {
                name::check_not_reserved(tag["key"].as_str().unwrap_or_default())?;
            }
            registry.check_may_add_version(job_id, &model).await?;
            write.tag(JOB_TAG, job_id);
            return Ok(external.create(Kind::ModelVersion, job_id, write).await?);
        }
        "model-versions/update" | "model-versions/set-tag" => {
            name::check_not_reserved(&write.text("key"))?;
            let id = stamp_id(&model, write.text("version"));
            external.check_made(caller, Kind::ModelVersion, &id).await?;
        }
        "registered-models/alias" | "model-versions/transition-stage"
            if promotes && registry.may_promote(caller).await? =>
        {
            let id = stamp_id(&model, write.text("version"));
            external.check_made(caller, Kind::ModelVersion, &id).await?;
        }
        _ => {
            let refused = tracking::Error::NotOwned {
                what: format!("what {path} changes"),
                job_id: job_id.to_owned(),
            };
            return Err(refused.into());
        }
    }
    let (head, body) = external.forward_write(write).await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

fn of(registry: &Registry) -> Result<&External, Failed> {
    let external = registry.tracking().external();
    external.ok_or_else(|| {
        Failed(Error::Invalid(
            "there is no external MLflow server".to_owned(),
        ))
    })
}

/// An error of a forwarded request, with what to do about it: MLflow's clients show nothing else.
struct Failed(Error);

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        MlflowError::with_help(ApiError::from(self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::made;

    #[test]
    fn the_version_that_was_made_is_read_from_the_answer() {
        let told = |text: &str| made(text.as_bytes());
        let expected = Some(("churn".to_owned(), 3));
        let answer = r#"{"model_version": {"name": "churn", "version": "3", "status": "READY"}}"#;
        assert_eq!(told(answer), expected);
        assert_eq!(told(&answer.replace("\"3\"", "3")), expected);
        for none in ["", "[]", "{}", r#"{"model_version": {"version": "x"}}"#] {
            assert_eq!(told(none), None, "{none}");
        }
    }
}
