//! Where MLflow's page finds what it asks for. It names all of it relative to itself, so a page
//! at `/mlflow/` asks for `/mlflow/ajax-api/...`: that is the route `/ajax-api/...`, with its
//! permission and its door, by another name.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use tower::util::MapRequest;

/// The page on an address that has a page of its own.
const PAGE: &str = "/mlflow";

/// What the page, and a client whose tracking URI ends in `/mlflow`, ask for.
const ASKED_FOR: [&str; 8] = [
    "/ajax-api/",
    "/api/",
    "/v1/traces",
    "/graphql",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/health",
    "/version",
];

/// Answers under `/mlflow` what the page there asks for.
pub fn below_its_path(router: Router) -> Router {
    renamed(router, |path| {
        let rest = path.strip_prefix(PAGE)?;
        is_asked_for(rest).then(|| rest.to_owned())
    })
}

/// Answers with the page at `/`, for an address of MLflow's alone.
pub fn at_the_root(router: Router) -> Router {
    renamed(below_its_path(router), |path| {
        let of_page = path == "/" || path.starts_with("/static-files/");
        of_page.then(|| format!("{PAGE}{path}"))
    })
}

fn is_asked_for(path: &str) -> bool {
    ASKED_FOR.iter().any(|known| {
        let rest = path.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || known.ends_with('/'))
    })
}

/// A router that sees another path where `rename` gives one. This comes before any route is
/// chosen, so what guards the routes sees only the new one.
fn renamed(router: Router, rename: fn(&str) -> Option<String>) -> Router {
    let service = MapRequest::new(router, move |mut request: Request| {
        if let Some(uri) = new_uri(request.uri(), rename) {
            *request.uri_mut() = uri;
        }
        request
    });
    Router::new().fallback_service(service)
}

fn new_uri(uri: &Uri, rename: fn(&str) -> Option<String>) -> Option<Uri> {
    let mut path = rename(uri.path())?;
    if let Some(query) = uri.query() {
        path = format!("{path}?{query}");
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_page_asks_for_has_another_name() {
        for asked in [
            "/ajax-api/2.0/mlflow/runs/search",
            "/api/2.0/mlflow/runs/get",
            "/graphql",
            "/get-artifact",
            "/version",
        ] {
            assert!(is_asked_for(asked), "{asked}");
        }
        for other in [
            "/mlops/keys",
            "/",
            "//api/2.0",
            "/graphqlx",
            "/static-files/index.html",
            "/versions",
            "/metrics",
        ] {
            assert!(!is_asked_for(other), "{other}");
        }
    }

    #[test]
    fn the_query_is_kept() {
        let uri: Uri = "/mlflow/get-artifact?path=a%2Fb&run_id=r".parse().unwrap();
        let strip = |path: &str| path.strip_prefix(PAGE).map(str::to_owned);
        let new = new_uri(&uri, strip).unwrap();
        assert_eq!(new.to_string(), "/get-artifact?path=a%2Fb&run_id=r");
    }
}
