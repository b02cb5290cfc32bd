//! `/docs` (Swagger UI, from this binary) and `/openapi.json`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerFile};
use web::{ApiError, Code, Path, Permission, RouteEntry, Routes, Style};

/// Swagger UI brings its script and style as files of their own; it sets styles on elements.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'self'";

/// The routes of the binary itself.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "asgard",
        description = "Training scripts become tracked, registered, served models. \
            MLflow's own REST API is answered under /api/2.0/mlflow and /api/3.0/mlflow: \
            see mlflow.org for its description.",
    ),
    paths(
        super::docs::file,
        super::docs::index,
        super::docs::openapi_json,
        super::doctor::get,
        super::health::health,
        super::health::version,
        super::keys::create,
        super::keys::list,
        super::keys::revoke,
        super::metrics::scrape,
        super::page::page,
        super::status::get,
    )
)]
pub(crate) struct Api;

/// The document and the settings of the page that shows it.
#[derive(Clone)]
pub(crate) struct Docs {
    openapi: Arc<str>,
    swagger: Arc<Config<'static>>,
}

/// Adds the documentation of `routes` and of itself to them.
pub(crate) fn add(routes: Routes, describe: impl FnOnce(&[RouteEntry]) -> OpenApi) -> Routes {
    let own = Routes::new(Style::Asgard)
        .get("/openapi.json", Permission::Public, openapi_json)
        .get("/docs", Permission::Public, index)
        .get("/docs/{file}", Permission::Public, file);
    let table = [routes.table(), own.table()].concat();
    let text = serde_json::to_string(&describe(&table)).unwrap_or_else(|error| {
        // Only map keys that are not text could cause it, and OpenAPI has none.
        tracing::error!(%error, "the description of the routes cannot be written");
        String::new()
    });
    routes.merge(
        own.with_state(Docs {
            openapi: text.into(),
            swagger: Arc::new(
                Config::from("/openapi.json")
                    .try_it_out_enabled(true)
                    // Else the page would ask a validator elsewhere about this document.
                    .validator_url("none"),
            ),
        }),
    )
}

/// The description of every route.
#[utoipa::path(get, path = "/openapi.json", tag = "platform",
    responses((status = 200, body = Object)))]
pub(crate) async fn openapi_json(State(docs): State<Docs>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, docs.openapi.to_string()).into_response()
}

/// The page that shows every route.
#[utoipa::path(get, path = "/docs", tag = "platform",
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn index(State(docs): State<Docs>) -> Result<Response, ApiError> {
    let page = find(&docs, "index.html")?;
    // The page names its files relative to a folder, which `/docs` is not.
    let html = String::from_utf8_lossy(&page.bytes)
        .replace("href=\"./", "href=\"/docs/")
        .replace("src=\"./", "src=\"/docs/")
        .replace("href=\"index.css\"", "href=\"/docs/index.css\"");
    Ok(answer(
        "text/html; charset=utf-8".to_owned(),
        html.into_bytes(),
    ))
}

/// A file of that page.
#[utoipa::path(get, path = "/docs/{file}", tag = "platform",
    params(("file" = String, Path)),
    responses((status = 200, body = String, content_type = "application/octet-stream"), (status = 404, description = "no such file")))]
pub(crate) async fn file(
    State(docs): State<Docs>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let file = find(&docs, &name)?;
    Ok(answer(file.content_type, file.bytes.into_owned()))
}

fn find(docs: &Docs, name: &str) -> Result<SwaggerFile<'static>, ApiError> {
    utoipa_swagger_ui::serve(name, docs.swagger.clone())
        .map_err(|error| ApiError::new(Code::Internal, format!("{name} cannot be shown: {error}")))?
        .ok_or_else(|| ApiError::new(Code::NotFound, format!("no file {name:?} belongs to /docs")))
}

fn answer(content_type: String, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::CACHE_CONTROL, "max-age=3600".to_owned()),
    ];
    (headers, bytes).into_response()
}
