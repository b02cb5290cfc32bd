//! What every request passes before its route: host and origin checks, and finding the caller.
//!
//! Browsers send a page's requests to any address, also to a loopback one (CVE-2025-62593,
//! CVE-2025-14279): a Host that is not ours is refused always, and anything but a safe method is
//! refused when its Origin or Sec-Fetch-Site says that another site sent it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use base64::Engine as _;
use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span};

use crate::code::Code;
use crate::error::ApiError;
use crate::extract::{RequestId, with_request_id};
use crate::identity::Identity;
use crate::observe::Observed;
use crate::routes::Style;

/// What a caller sent to say who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The bearer token, or the password of HTTP Basic.
    pub token: String,
}

/// Finds the identity behind credentials; `None` when there is none.
pub type Authenticate = Arc<
    dyn Fn(Credentials) -> Pin<Box<dyn Future<Output = Result<Option<Identity>, ApiError>> + Send>>
        + Send
        + Sync,
>;

/// The largest body of a route that sets no limit of its own, in bytes.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// What stands before the routes of one listener.
#[derive(Clone)]
pub struct Door {
    authenticate: Authenticate,
    without_credentials: Identity,
    hosts: Arc<[String]>,
    any_host: bool,
    any_address: bool,
}

impl Door {
    /// A door whose callers are [`Identity::Anonymous`] unless their credentials say otherwise,
    /// and which answers to loopback names only.
    pub fn new(authenticate: Authenticate) -> Self {
        Self {
            authenticate,
            without_credentials: Identity::Anonymous,
            hosts: Arc::new([]),
            any_host: false,
            any_address: false,
        }
    }

    /// Lets callers without credentials in as `identity`.
    #[must_use]
    pub fn open_to(mut self, identity: Identity) -> Self {
        self.without_credentials = identity;
        self
    }

    /// Answers also to these host names; `*` answers to all.
    #[must_use]
    pub fn hosts(mut self, hosts: &[String]) -> Self {
        self.any_host = hosts.iter().any(|h| h == "*");
        self.hosts = hosts.iter().map(|h| h.to_ascii_lowercase()).collect();
        self
    }

    /// Answers also when the Host is an IP address, whichever it is. A page can make a *name* of
    /// its own point here (DNS rebinding), never an address.
    #[must_use]
    pub fn any_address(mut self) -> Self {
        self.any_address = true;
        self
    }

    /// Puts the door before the routes.
    pub fn guard(self, router: Router) -> Router {
        router
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(from_fn_with_state(Arc::new(self), pass))
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = host_name(host).to_ascii_lowercase();
        self.any_host
            || is_loopback(&name)
            || self.hosts.contains(&name)
            || (self.any_address && name.parse::<std::net::IpAddr>().is_ok())
    }

    fn check_site(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let host = request
            .uri()
            .authority()
            .map(|a| a.as_str())
            .or_else(|| text(headers, &header::HOST));
        if let Some(host) = host
            && !self.knows_host(host)
        {
            return Err(ApiError::new(
                Code::Forbidden,
                format!("the host {host:?} is not one of this server's names"),
            )
            .named("foreign_host")
            .help("add it to server.allowed_hosts in asgard.toml"));
        }
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
            return Ok(());
        }
        let cross_site = || {
            ApiError::new(Code::Forbidden, "a page of another site sent this request")
                .named("cross_site")
                .help("call the API from a program, or from a page that this server serves")
        };
        if headers
            .get("sec-fetch-site")
            .is_some_and(|v| v != "same-origin" && v != "none")
        {
            return Err(cross_site());
        }
        if let Some(origin) = text(headers, &header::ORIGIN) {
            let authority = origin.split_once("://").map(|(_, rest)| rest);
            if authority.is_none() || authority != host {
                return Err(cross_site());
            }
        }
        Ok(())
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Identity, ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(self.without_credentials.clone());
        };
        let refused = || {
            ApiError::new(
                Code::Unauthenticated,
                "the Authorization header holds no key that this server knows",
            )
            .help("'asgard keys list' shows the keys, 'asgard keys create' makes one")
        };
        let credentials = parse_authorization(value).ok_or_else(refused)?;
        (self.authenticate)(credentials).await?.ok_or_else(refused)
    }
}

async fn pass(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let header = HeaderValue::from_str(id.as_str()).ok();
    let observed = Observed::begin(&request, &id);
    let answer = admit(door, request, next).instrument(observed.span.clone());
    let mut response = with_request_id(id, answer).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(value) = header {
        headers.insert("x-request-id", value);
    }
    observed.end(&response);
    response
}

async fn admit(door: Arc<Door>, mut request: Request, next: Next) -> Response {
    let style = Style::of(request.uri().path());
    if let Err(error) = door.check_site(&request) {
        return style.respond(error);
    }
    match door.identify(request.headers()).await {
        Ok(identity) => {
            Observed::caller(&Span::current(), &identity);
            request.extensions_mut().insert(identity);
        }
        Err(error) => return style.respond(error),
    }
    // A panic ends the request that caused it, not the connection or the process.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => style.respond(ApiError::internal(&Panicked)),
    }
}

/// A handler panicked; the panic hook has logged where and why.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked")]
struct Panicked;

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// The name in a Host value, without its port: `[::1]:80` is `::1`.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Reads `Bearer TOKEN` and `Basic base64(user:TOKEN)`; MLflow clients send either.
fn parse_authorization(value: &HeaderValue) -> Option<Credentials> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(rest.trim())
            .ok()?;
        String::from_utf8(decoded)
            .ok()?
            .split_once(':')?
            .1
            .to_owned()
    } else {
        return None;
    };
    (!token.is_empty()).then_some(Credentials { token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_the_host_does_not_make_it_foreign() {
        assert_eq!(host_name("localhost:8000"), "localhost");
        assert_eq!(host_name("[::1]:8000"), "::1");
        assert_eq!(host_name("127.0.0.1"), "127.0.0.1");
        assert!(
            is_loopback("127.0.0.9") && is_loopback("::1") && !is_loopback("127.0.0.1.example.org")
        );
    }

    #[tokio::test]
    async fn a_panic_ends_its_request_and_no_other() {
        use axum::routing::get;
        use tower::ServiceExt as _;
        async fn faulty() -> &'static str {
            panic!("a handler's mistake")
        }
        let routes = Router::new()
            .route("/faulty", get(faulty))
            .route("/api/2.0/mlflow/faulty", get(faulty))
            .route("/sound", get(|| async { "sound" }));
        let authenticate: Authenticate = Arc::new(|_| Box::pin(async { Ok(None) }));
        let router = Door::new(authenticate).guard(routes);
        for (path, status) in [
            ("/faulty", 500),
            ("/api/2.0/mlflow/faulty", 500),
            ("/sound", 200),
        ] {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert!(response.headers().contains_key("x-request-id"), "{path}");
        }
    }

    #[test]
    fn a_key_comes_as_bearer_or_as_the_basic_password() {
        let bearer = parse_authorization(&HeaderValue::from_static("Bearer abc"));
        let basic = parse_authorization(&HeaderValue::from_static("Basic bWU6YWJj"));
        assert_eq!(
            bearer,
            Some(Credentials {
                token: "abc".into()
            })
        );
        assert_eq!(basic, bearer);
        assert_eq!(
            parse_authorization(&HeaderValue::from_static("Digest abc")),
            None
        );
        assert_eq!(
            parse_authorization(&HeaderValue::from_static("Bearer ")),
            None
        );
    }
}
