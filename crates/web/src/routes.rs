//! Routes that cannot be added without a permission.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodFilter, on};

use crate::code::Code;
use crate::error::{ApiError, MlflowError};
use crate::identity::{Identity, Permission, Role};

/// Whose error body a route answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Asgard,
    Mlflow,
    /// Calls of gRPC, which no OpenAPI describes.
    Grpc,
}

impl Style {
    /// The style of a path that no route may have matched yet.
    pub(crate) fn of(path: &str) -> Self {
        const BARE: [&str; 3] = ["/graphql", "/get-artifact", "/model-versions/get-artifact"];
        let mlflow = path.starts_with("/api/")
            || path.starts_with("/ajax-api/")
            || path.starts_with("/v1/traces")
            || BARE.contains(&path);
        let grpc = path.starts_with("/feast.registry.") || path.starts_with("/arrow.flight.");
        match (mlflow, grpc) {
            (true, _) => Self::Mlflow,
            (_, true) => Self::Grpc,
            _ => Self::Asgard,
        }
    }

    pub(crate) fn respond(self, error: ApiError) -> Response {
        match self {
            Self::Asgard => error.into_response(),
            Self::Mlflow => MlflowError::with_help(error).into_response(),
            Self::Grpc => crate::grpc::refusal(&error),
        }
    }
}

/// A route as the permission table lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    pub method: Method,
    pub path: String,
    pub permission: Permission,
    pub style: Style,
}

/// Routes of a domain, with the permission each one needs. The state is already in the handlers.
pub struct Routes<S = ()> {
    router: Router<S>,
    table: Vec<RouteEntry>,
    style: Style,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet; errors of the door will have this style.
    pub fn new(style: Style) -> Self {
        Self {
            router: Router::new(),
            table: Vec::new(),
            style,
        }
    }

    /// Adds a route.
    #[must_use]
    pub fn route<H, T>(
        mut self,
        method: Method,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a standard HTTP method");
        let style = self.style;
        let guard = from_fn(move |request: Request, next: Next| async move {
            Ok::<_, Infallible>(enforce(permission, style, request, next).await)
        });
        self.router = self
            .router
            .route(path, on(filter, handler).route_layer(guard));
        self.table.push(RouteEntry {
            method,
            path: path.to_owned(),
            permission,
            style,
        });
        self
    }

    /// Adds a GET route.
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(
        self,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.route(Method::GET, path, permission, handler)
    }

    /// Adds a POST route.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(
        self,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.route(Method::POST, path, permission, handler)
    }

    /// Adds a PUT route.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(
        self,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.route(Method::PUT, path, permission, handler)
    }

    /// Adds a PATCH route.
    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(
        self,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.route(Method::PATCH, path, permission, handler)
    }

    /// Adds a DELETE route.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(
        self,
        path: &str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.route(Method::DELETE, path, permission, handler)
    }

    /// Puts another set of routes beside these.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.table.extend(other.table);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state(self, state: S) -> Routes<()> {
        Routes {
            router: self.router.with_state(state),
            table: self.table,
            style: self.style,
        }
    }

    /// All routes with their permissions.
    pub fn table(&self) -> &[RouteEntry] {
        &self.table
    }
}

impl Routes<()> {
    /// The router; what no route matches is a 404 or 405 in the style of its path.
    pub fn into_router(self) -> Router {
        self.router
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
    }
}

async fn enforce(permission: Permission, style: Style, request: Request, next: Next) -> Response {
    let identity = request
        .extensions()
        .get::<Identity>()
        .unwrap_or(&Identity::Anonymous);
    if identity.may(permission) {
        return next.run(request).await;
    }
    let error = if *identity == Identity::Anonymous {
        ApiError::new(Code::Unauthenticated, "this address needs an API key")
            .help("make one on the server with 'asgard keys create', then send it as 'Authorization: Bearer KEY' (MLflow clients: MLFLOW_TRACKING_TOKEN=KEY)")
    } else {
        let needed = Role::needed_for(permission).as_str();
        let help = match identity {
            Identity::Job { .. } => {
                "a job may read what is tracked and write what is its own".to_owned()
            }
            _ => format!("use a key of the role {needed}: 'asgard keys create --role {needed}'"),
        };
        ApiError::new(
            Code::Forbidden,
            format!(
                "{} may not do this: it needs the permission {permission:?}",
                identity.label()
            ),
        )
        .help(help)
    };
    style.respond(error)
}

/// The same address without doubled slashes, which clients write whose server's URL ends with one;
/// MLflow's own server leads there too.
fn with_single_slashes(uri: &Uri) -> Option<String> {
    let path = uri.path();
    // A browser reads a backslash as a slash: the answer must not lead to another host.
    if !path.contains("//") || path.contains('\\') {
        return None;
    }
    let names = path.split('/').filter(|name| !name.is_empty());
    let merged = names.fold(String::new(), |merged, name| merged + "/" + name);
    let query = uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("{merged}{query}")).filter(|merged| merged.starts_with('/'))
}

async fn not_found(request: Request) -> Response {
    if let Some(there) = with_single_slashes(request.uri()) {
        return Redirect::permanent(&there).into_response();
    }
    let path = request.uri().path();
    let message = format!("no route {} {path}", request.method());
    match Style::of(path) {
        Style::Asgard => ApiError::new(Code::NotFound, message)
            .named("route_not_found")
            .help("the routes are listed at /docs")
            .into_response(),
        Style::Mlflow => MlflowError::raw(
            axum::http::StatusCode::NOT_FOUND,
            "ENDPOINT_NOT_FOUND",
            message,
        )
        .into_response(),
        // The status by which gRPC clients know that a server lacks a call.
        Style::Grpc => Style::Grpc.respond(ApiError::new(Code::NotImplemented, message)),
    }
}

async fn method_not_allowed(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} does not answer {}", request.method());
    let mut response = match Style::of(path) {
        Style::Asgard => ApiError::new(Code::NotFound, message)
            .named("method_not_allowed")
            .titled("Method not allowed")
            .help("the routes are listed at /docs")
            .into_response(),
        Style::Mlflow => MlflowError::raw(
            axum::http::StatusCode::METHOD_NOT_ALLOWED,
            "ENDPOINT_NOT_FOUND",
            message,
        )
        .into_response(),
        Style::Grpc => Style::Grpc.respond(ApiError::new(Code::NotImplemented, message)),
    };
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
