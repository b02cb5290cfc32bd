//! MLflow's routes when an external server answers them.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use web::{ApiError, Caller, Identity, MlflowError, Permission, RouteEntry, Routes, Style};

use super::otlp;
use crate::Tracking;
use crate::error::Error;
use crate::external::{External, JobWrite, Kind, Write, write_of};
use crate::location::Location;
use crate::owner::Change;
use crate::wire::parse_query;

/// The same routes with the same permissions as the embedded server has, and below them all others:
/// newer ones, and those of users and their permissions, which only administrators may use to change
/// something.
pub(super) fn routes(tracking: Tracking, embedded: &[RouteEntry]) -> Routes {
    let known = embedded
        .iter()
        .fold(Routes::new(Style::Mlflow), |routes, entry| {
            let (method, path) = (entry.method.clone(), entry.path.as_str());
            match entry.permission {
                Permission::WriteTracking if path == otlp::PATH => {
                    routes.route(method, path, entry.permission, spans)
                }
                Permission::WriteTracking => routes.route(method, path, entry.permission, write),
                // There it asks a paid service of others; the embedded server has none.
                _ if method == Method::POST && path.ends_with("/gateway-proxy") => {
                    routes.route(method, path, Permission::ManageModels, pass)
                }
                permission => routes.route(method, path, permission, pass),
            }
        });
    let routes = ["/api/{*rest}", "/ajax-api/{*rest}"]
        .into_iter()
        .fold(known, |routes, path| {
            let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
            let routes = routes.get(path, Permission::ReadTracking, pass);
            changes.into_iter().fold(routes, |routes, method| {
                routes.route(method, path, Permission::Administer, pass)
            })
        });
    routes.with_state(tracking)
}

/// These routes are only there when there is an external server.
fn of(tracking: &Tracking) -> Result<&External, Error> {
    let external = tracking.external();
    external.ok_or_else(|| Error::Invalid("there is no external MLflow server".to_owned()))
}

async fn pass(State(tracking): State<Tracking>, request: Request) -> Result<Response, Failed> {
    Ok(of(&tracking)?.forward(request).await?)
}

async fn write(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, Failed> {
    let external = of(&tracking)?;
    if caller.may(Permission::ManageModels) {
        return Ok(external.forward(request).await?);
    }
    let path = request.uri().path().to_owned();
    let names = names_of(&path)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let write = write_of(request.method(), &names);
    if let Some(write) = &write
        && let Some((file, change)) =
            file_of(&tracking, write, request.method(), request.uri()).await?
    {
        let allowed = tracking.check_may_change_artifact(&caller, &file, change);
        allowed.await?;
    }
    match (caller.job_id(), write) {
        (None, Some(Write::Signed)) => Ok(sign(&tracking, &caller, request).await?),
        (None, _) => Ok(external.forward(request).await?),
        (Some(job_id), Some(write)) => {
            let written = external.write_as_job(&tracking, &caller, job_id, write, request);
            Ok(written.await?)
        }
        (Some(job_id), None) => Err(Error::NotOwned {
            what: format!("what {} {path} changes", request.method()),
            job_id: job_id.to_owned(),
        }
        .into()),
    }
}

#[derive(Deserialize)]
struct FileOfRunQuery {
    run_id: Option<String>,
    run_uuid: Option<String>,
    #[serde(default)]
    path: String,
}

/// The file, or the folder of it, that a request changes, where its path or its query says so.
async fn file_of(
    tracking: &Tracking,
    write: &Write<'_>,
    method: &Method,
    uri: &Uri,
) -> Result<Option<(Location, Change)>, Error> {
    let change = match *method == Method::DELETE {
        true => Change::Delete,
        false => Change::Write,
    };
    let place = match write {
        Write::File(path) | Write::Parts(path) => Location::root().join(path)?,
        Write::FileOfRun => {
            let query: FileOfRunQuery = parse_query(uri.query().unwrap_or_default())?;
            // That server reads run_uuid alone: what is asked about here must be what it writes.
            if query
                .run_id
                .is_some_and(|run_id| query.run_uuid.as_ref() != Some(&run_id))
            {
                return Err(Error::Invalid(
                    "the run is named by run_uuid; run_id must be absent or the same".to_owned(),
                ));
            }
            let given = query.run_uuid.unwrap_or_default();
            place_in_run(tracking, &given, decoded_whole(&query.path)?).await?
        }
        _ => return Ok(None),
    };
    Ok(Some((place, change)))
}

async fn place_in_run(tracking: &Tracking, run_id: &str, path: &str) -> Result<Location, Error> {
    if run_id.is_empty() {
        return Err(Error::Missing("run_uuid".to_owned()));
    }
    let run = tracking.get_run(run_id).await?;
    Location::parse_uri(&run.artifact_uri)?.join(path)
}

/// Has the address of a file of a run signed, for a caller who may change the file.
async fn sign(tracking: &Tracking, caller: &Identity, request: Request) -> Result<Response, Error> {
    let read = JobWrite::read(request).await?;
    let path = read.text("path");
    let file = place_in_run(tracking, &read.text("run_id"), decoded_whole(&path)?).await?;
    let allowed = tracking.check_may_change_artifact(caller, &file, Change::Write);
    allowed.await?;
    let (head, body) = of(tracking)?.forward_write(read).await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

/// Spans by OTLP. Those of a job are read first: their traces are its own, or new.
async fn spans(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, Failed> {
    let external = of(&tracking)?;
    let Some(job_id) = caller.job_id() else {
        return Ok(external.forward(request).await?);
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, otlp::MAX_BYTES)
        .await
        .map_err(|_| Error::BodyTooLarge)?;
    let spans = otlp::read(&parts.headers, &body)?;
    if let Some(run_id) = otlp::run_of(&parts.headers) {
        external.check_made(&caller, Kind::Run, run_id).await?;
    }
    let request = Request::from_parts(parts, Body::from(body));
    Ok(external
        .log_spans_as_job(&caller, job_id, &spans, request)
        .await?)
}

/// The names of a path below its prefix, decoded once. A name that holds a slash is two to
/// whoever decodes before it splits.
fn names_of(path: &str) -> Result<Vec<String>, Error> {
    let wrong = |reason| Error::InvalidPath {
        path: path.to_owned(),
        reason,
    };
    let names = path.split('/').skip(2).map(|name| {
        let name = percent_decode_str(name).decode_utf8();
        let name = name.map_err(|_| wrong("it is not UTF-8"))?;
        match name.contains('/') {
            true => Err(wrong("a name in it holds a slash")),
            false => decoded_whole(&name).map(str::to_owned),
        }
    });
    names.collect()
}

/// A path that stays what it is when it is decoded once more: MLflow decodes until nothing changes,
/// and what was asked about here would not be what it writes.
fn decoded_whole(path: &str) -> Result<&str, Error> {
    match percent_decode_str(path).decode_utf8() {
        Ok(again) if again == path => Ok(path),
        _ => Err(Error::InvalidPath {
            path: path.to_owned(),
            reason: "it is percent-encoded twice",
        }),
    }
}

/// An error of a forwarded request, with what to do about it: MLflow's clients show nothing else.
struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        MlflowError::with_help(ApiError::from(self.0)).into_response()
    }
}
