//! MLflow's routes when an external server answers them.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use web::{ApiError, Caller, MlflowError, Permission, RouteEntry, Routes, Style};

use crate::error::Error;
use crate::external::{External, write_of};

/// The same routes with the same permissions as the embedded server has, and below them those of
/// newer servers, which only those who manage models may use to change something.
pub(super) fn routes(external: External, embedded: &[RouteEntry]) -> Routes {
    let known = embedded
        .iter()
        .fold(Routes::new(Style::Mlflow), |routes, entry| {
            let (method, path) = (entry.method.clone(), entry.path.as_str());
            match entry.permission {
                Permission::WriteTracking => routes.route(method, path, entry.permission, write),
                permission => routes.route(method, path, permission, pass),
            }
        });
    let routes = ["/api/{*rest}", "/ajax-api/{*rest}"]
        .into_iter()
        .fold(known, |routes, path| {
            let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
            let routes = routes.get(path, Permission::ReadTracking, pass);
            changes.into_iter().fold(routes, |routes, method| {
                routes.route(method, path, Permission::ManageModels, pass)
            })
        });
    routes.with_state(external)
}

async fn pass(State(external): State<External>, request: Request) -> Result<Response, Failed> {
    Ok(external.forward(request).await?)
}

async fn write(
    State(external): State<External>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, Failed> {
    let Some(job_id) = caller.job_id() else {
        return Ok(external.forward(request).await?);
    };
    let path = request.uri().path().to_owned();
    let names = names_of(&path)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(write) = write_of(request.method(), &names) else {
        return Err(Error::NotOwned {
            what: format!("what {} {path} changes", request.method()),
            job_id: job_id.to_owned(),
        }
        .into());
    };
    let written = external.write_as_job(&caller, job_id, write, request);
    Ok(written.await?)
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
            false => Ok(name.into_owned()),
        }
    });
    names.collect()
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
