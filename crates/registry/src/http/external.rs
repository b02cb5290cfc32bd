//! MLflow's registry routes when an external server answers them.

use axum::body::Body;
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
    let answered = match caller.job_id() {
        None => external.forward(request).await.map_err(Failed::from),
        Some(job_id) => write_as_job(&registry, external, job_id, &caller, request).await,
    };
    // Also after a failure: the change may have been made.
    registry.changed();
    answered
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
