//! What a model server answers while its model is loaded: that it is there, and not ready yet.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use tower::ServiceExt as _;
use web::{ApiError, Code};

/// Routes that refuse everything with 503 until they are opened; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Loading(Arc<OnceLock<Router>>);

impl Loading {
    /// These routes.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(pass).with_state(self.clone())
    }

    /// Has them answer as others do from now on; only the first call counts.
    pub(crate) fn open(&self, routes: Router) {
        self.0.get_or_init(|| routes);
    }
}

async fn pass(State(loading): State<Loading>, request: Request) -> Response {
    let Some(routes) = loading.0.get() else {
        return ApiError::new(Code::Unavailable, "the model is being loaded")
            .named("model_loading")
            .retry_after(1)
            .help("ask again in a moment; /health answers 200 when it is ready")
            .into_response();
    };
    match routes.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_server_whose_model_is_loaded_says_so() {
        let loading = Loading::default();
        let router = loading.router();
        let status = async || {
            let request = Request::get("/health").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
        loading.open(Router::new().route("/health", get(|| async { "well" })));
        assert_eq!(status().await, StatusCode::OK);
    }
}
