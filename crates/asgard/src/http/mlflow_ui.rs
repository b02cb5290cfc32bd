//! MLflow's own page at `/mlflow/`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use tokio_util::io::ReaderStream;
use web::{ApiError, Code, Path, Permission, Routes, Style};

use crate::mlflow_ui::{Asset, INDEX, MlflowUi};

/// What is said while the page is not installed.
const ABSENT: &str = include_str!("mlflow_ui.html");

/// The page brings its scripts as files, sets styles on elements, and shows artifacts from blobs;
/// its charts on WebGL make functions of text (regl in Plotly), which lets in no script that is
/// not there already. Nothing may come from or go to another server.
const POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; \
    worker-src 'self' blob:; frame-src 'self' blob: data:; connect-src 'self'; \
    object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

/// How long a file whose name changes with its content may be kept.
const LASTING: &str = "private, max-age=31536000, immutable";

/// Ask again each time; the answer is short when nothing changed.
const ASK_AGAIN: &str = "no-cache";

pub(crate) fn routes(ui: MlflowUi) -> Routes {
    use Permission::ReadTracking;
    Routes::new(Style::Asgard)
        .get("/mlflow", ReadTracking, to_page)
        .get("/mlflow/", ReadTracking, page)
        .get("/mlflow/static-files/{*file}", ReadTracking, file)
        .with_state(ui)
}

/// Leads to `/mlflow/`: the page names its files relative to that.
#[utoipa::path(get, path = "/mlflow", tag = "platform",
    responses((status = 308, description = "The page is at /mlflow/")))]
pub(crate) async fn to_page() -> Redirect {
    // Relative, for a proxy may have put all of it under a path of its own.
    Redirect::permanent("mlflow/")
}

/// MLflow's own page, from an installed mlflow wheel.
#[utoipa::path(get, path = "/mlflow/", tag = "platform",
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 404, description = "It is not installed; the answer says how", body = String, content_type = "text/html")))]
pub(crate) async fn page(
    State(ui): State<MlflowUi>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let assets = ui
        .assets()
        .await
        .map_err(|error| ApiError::internal(&error))?;
    let Some(index) = assets.as_ref().and_then(|assets| assets.get(INDEX)) else {
        let content_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
        let mut absent = (StatusCode::NOT_FOUND, content_type, ABSENT).into_response();
        protect(absent.headers_mut());
        return Ok(absent);
    };
    send(index, &headers).await
}

/// A file of that page.
#[utoipa::path(get, path = "/mlflow/static-files/{file}", tag = "platform",
    params(("file" = String, Path)),
    responses((status = 200, body = String, content_type = "application/octet-stream"), (status = 404, description = "no such file")))]
pub(crate) async fn file(
    State(ui): State<MlflowUi>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let assets = ui
        .assets()
        .await
        .map_err(|error| ApiError::internal(&error))?;
    let Some(assets) = assets else {
        return Err(
            ApiError::new(Code::NotFound, "MLflow's page is not installed")
                .help("install it on the server with 'asgard mlflow-ui install'"),
        );
    };
    let missing = || {
        ApiError::new(
            Code::NotFound,
            format!("no file {name:?} belongs to MLflow's page"),
        )
    };
    send(assets.get(&name).ok_or_else(missing)?, &headers).await
}

async fn send(asset: &Asset, request: &HeaderMap) -> Result<Response, ApiError> {
    let same = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| value.as_bytes() == asset.etag.as_bytes());
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let opened = open(asset).await;
        opened.map_err(|error| ApiError::internal(&error))?
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&asset.etag) {
        headers.insert(header::ETAG, etag);
    }
    let caching = if asset.lasting { LASTING } else { ASK_AGAIN };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    protect(headers);
    Ok(response)
}

async fn open(asset: &Asset) -> std::io::Result<Response> {
    let file = tokio::fs::File::open(&asset.path).await?;
    let size = file.metadata().await?.len();
    let mut response = Response::new(Body::from_stream(ReaderStream::new(file)));
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(asset.content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

fn protect(headers: &mut HeaderMap) {
    const ALL: [(HeaderName, &str); 2] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in ALL {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
