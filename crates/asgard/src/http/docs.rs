//! `/docs` (Swagger UI, from this binary) and `/openapi.json`.

use std::io::{Cursor, Read as _};
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use web::{ApiError, Code, Path, Permission, RouteEntry, Routes, Style};
use zip::ZipArchive;
use zip::result::ZipError;

/// Swagger UI brings its script and style as files of their own; it sets styles on elements.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'self'";

/// The folder of the page in the archive of Swagger UI.
const FOLDER: &str = "swagger-ui-5.17.14/dist";

/// The files of the page, and what they are. The rest of the archive is for builders of other pages.
const FILES: [(&str, &str); 6] = [
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
    ("index.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    (
        "swagger-ui-standalone-preset.js",
        "text/javascript; charset=utf-8",
    ),
    ("swagger-ui.css", "text/css; charset=utf-8"),
];

/// Starts the page. Without `validatorUrl` it would ask a validator elsewhere about this document.
const INITIALIZER: &str = r##"window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout",
    tryItOutEnabled: true,
    validatorUrl: "none",
  });
};
"##;

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
        super::gc::collect,
        super::health::health,
        super::health::version,
        super::keys::create,
        super::keys::list,
        super::keys::revoke,
        super::metrics::scrape,
        super::mlflow_ui::file,
        super::mlflow_ui::page,
        super::mlflow_ui::to_page,
        super::page::page,
        super::status::get,
    )
)]
pub(crate) struct Api;

/// The document that the page shows, made when it is first asked for: most servers never are.
#[derive(Clone)]
pub(crate) struct Docs(Arc<LazyLock<String, Describe>>);

type Describe = Box<dyn FnOnce() -> String + Send>;

/// Adds the documentation of `routes` and of itself to them.
pub(crate) fn add(
    routes: Routes,
    describe: impl FnOnce(&[RouteEntry]) -> OpenApi + Send + 'static,
) -> Routes {
    let own = Routes::new(Style::Asgard)
        .get("/openapi.json", Permission::Public, openapi_json)
        .get("/docs", Permission::Public, index)
        .get("/docs/{file}", Permission::Public, file);
    let table = [routes.table(), own.table()].concat();
    let text = move || {
        serde_json::to_string(&describe(&table)).unwrap_or_else(|error| {
            // Only map keys that are not text could cause it, and OpenAPI has none.
            tracing::error!(%error, "the description of the routes cannot be written");
            String::new()
        })
    };
    routes.merge(own.with_state(Docs(Arc::new(LazyLock::new(Box::new(text))))))
}

/// The description of every route.
#[utoipa::path(get, path = "/openapi.json", tag = "platform",
    responses((status = 200, body = Object)))]
pub(crate) async fn openapi_json(State(docs): State<Docs>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, LazyLock::force(&docs.0).clone()).into_response()
}

/// The page that shows every route.
#[utoipa::path(get, path = "/docs", tag = "platform",
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn index() -> Result<Response, ApiError> {
    let page = unpack("index.html").map_err(|error| unreadable("index.html", error))?;
    // The page names its files relative to a folder, which `/docs` is not.
    let html = String::from_utf8_lossy(&page)
        .replace("href=\"./", "href=\"/docs/")
        .replace("src=\"./", "src=\"/docs/")
        .replace("href=\"index.css\"", "href=\"/docs/index.css\"");
    Ok(answer("text/html; charset=utf-8", html.into_bytes()))
}

/// A file of that page.
#[utoipa::path(get, path = "/docs/{file}", tag = "platform",
    params(("file" = String, Path)),
    responses((status = 200, body = String, content_type = "application/octet-stream"), (status = 404, description = "no such file")))]
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    if name == "swagger-initializer.js" {
        return Ok(answer("text/javascript; charset=utf-8", INITIALIZER.into()));
    }
    let Some(&(name, content_type)) = FILES.iter().find(|(file, _)| *file == name) else {
        return Err(ApiError::new(
            Code::NotFound,
            format!("no file {name:?} belongs to /docs"),
        ));
    };
    let bytes = unpack(name).map_err(|error| unreadable(name, error))?;
    Ok(answer(content_type, bytes))
}

/// Takes a file of the page out of the archive that this binary carries.
fn unpack(name: &str) -> Result<Vec<u8>, ZipError> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let mut file = archive.by_name(&format!("{FOLDER}/{name}"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: ZipError) -> ApiError {
    ApiError::new(Code::Internal, format!("{name} cannot be shown: {error}"))
}

fn answer(content_type: &'static str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "max-age=3600"),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_carried() {
        let page = String::from_utf8(unpack("index.html").expect("page")).expect("text");
        for (name, _) in FILES {
            assert!(page.contains(name), "{name} is not used by the page");
            assert!(!unpack(name).expect(name).is_empty());
        }
        let known = |name: &str| {
            name == "swagger-initializer.js" || FILES.iter().any(|(file, _)| *file == name)
        };
        for name in page
            .split('"')
            .filter(|part| part.ends_with(".js") || part.ends_with(".css"))
        {
            assert!(known(name.trim_start_matches("./")), "{name} is missing");
        }
    }
}
