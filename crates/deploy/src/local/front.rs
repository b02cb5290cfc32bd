//! One address before the replicas of an endpoint's deployments.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header, request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::Full;
use tokio_util::sync::CancellationToken;
use web::{ApiError, Code, RouteEntry, Routes, Style};

use super::group::Group;
use super::pool::{ANSWER_BYTES, SendError};
use super::replica::Replica;

/// How many replicas a request is offered to when they are gone before they take it.
const TRIES: usize = 3;

/// The front of an endpoint; cheap to clone.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    model_name: String,
    port: u16,
    shares: RwLock<Vec<Share>>,
    requests: AtomicUsize,
    request_timeout: Duration,
    stop: CancellationToken,
}

/// A deployment's part of the requests.
#[derive(Clone)]
pub(crate) struct Share {
    pub(crate) deployment_id: String,
    pub(crate) percent: u32,
    pub(crate) group: Arc<Group>,
}

impl Front {
    /// Begins to serve a bound address.
    ///
    /// # Errors
    /// When the server may not serve it.
    pub(crate) fn open(
        model_name: &str,
        port: u16,
        listener: TcpListener,
        request_timeout: Duration,
        serve: &dyn Fn(TcpListener, Routes, CancellationToken) -> Result<(), String>,
    ) -> Result<Self, String> {
        let front = Self(Arc::new(Inner {
            model_name: model_name.to_owned(),
            port,
            shares: RwLock::default(),
            requests: AtomicUsize::new(0),
            request_timeout,
            stop: CancellationToken::new(),
        }));
        serve(listener, routes(front.clone()), front.0.stop.clone())?;
        Ok(front)
    }

    /// The port that it was opened for.
    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    /// Says who gets which part of the requests from now on.
    pub(crate) fn share(&self, shares: Vec<Share>) {
        *self
            .0
            .shares
            .write()
            .unwrap_or_else(PoisonError::into_inner) = shares;
    }

    /// Stops listening; requests under way are answered.
    pub(crate) fn close(&self) {
        self.0.stop.cancel();
    }

    /// The replica for a request; of another deployment when the one whose turn it is has none that
    /// is ready.
    fn choose(&self, turn: u32, tried: &[Arc<Replica>]) -> Option<(String, Arc<Replica>)> {
        let shares = self.0.shares.read().unwrap_or_else(PoisonError::into_inner);
        let percents: Vec<u32> = shares.iter().map(|share| share.percent).collect();
        let first = whose(&percents, turn);
        let in_order = shares.iter().cycle().skip(first).take(shares.len());
        in_order
            .filter(|share| share.percent > 0)
            .find_map(|share| Some((share.deployment_id.clone(), share.group.choose(tried)?)))
    }

    /// Whose turn a request is. Only those that ask the model are counted.
    fn turn(&self, method: &Method) -> u32 {
        let requests = &self.0.requests;
        turn(match *method {
            Method::POST => requests.fetch_add(1, Ordering::Relaxed),
            _ => requests.load(Ordering::Relaxed),
        })
    }

    /// Has a replica answer. One that dies after it took the request may have died of it, so no
    /// other is given the same.
    async fn answer(&self, head: &request::Parts, body: Bytes) -> Result<Response, ApiError> {
        let turn = self.turn(&head.method);
        let mut tried: Vec<Arc<Replica>> = Vec::new();
        while tried.len() < TRIES {
            let Some((deployment_id, replica)) = self.choose(turn, &tried) else {
                break;
            };
            let request = forwarded(head, body.clone()).map_err(|e| ApiError::internal(&e))?;
            let limit = self.0.request_timeout;
            let sent = tokio::time::timeout(limit, replica.pool.send(request)).await;
            let error = match sent.map_err(|_| self.too_slow())? {
                Ok(answer) => return Ok(passed_on(answer, &deployment_id)),
                Err(SendError::TooLong) => return Err(self.too_long()),
                Err(error) => error,
            };
            tracing::warn!(deployment_id, ?error, "a replica did not answer");
            replica.doubt();
            if !error.is_untouched() {
                return Err(self.died());
            }
            tried.push(replica);
        }
        Err(self.nobody())
    }

    fn nobody(&self) -> ApiError {
        let name = &self.0.model_name;
        let message = format!("no replica of {name:?} is ready");
        ApiError::new(Code::Unavailable, message)
            .named("no_replica")
            .retry_after(1)
            .help("send the request again; GET /mlops/deployments on the server tells why when it lasts")
    }

    fn too_slow(&self) -> ApiError {
        let limit = self.0.request_timeout.as_millis();
        let message = format!("{:?} did not answer within {limit} ms", self.0.model_name);
        ApiError::new(Code::Unavailable, message)
            .named("prediction_timeout")
            .help("send fewer rows, or raise deploy.request_timeout_ms and serving.request_timeout_ms")
    }

    fn too_long(&self) -> ApiError {
        let message = format!(
            "the answer of {:?} is longer than {ANSWER_BYTES} bytes",
            self.0.model_name
        );
        ApiError::new(Code::BadGateway, message)
            .named("answer_too_long")
            .help("ask for fewer rows at once")
    }

    fn died(&self) -> ApiError {
        let name = &self.0.model_name;
        let message = format!("the replica of {name:?} that had this request died");
        ApiError::new(Code::BadGateway, message)
            .named("replica_died")
            .help("send it again; when that fails too, run the same inputs through the model in Python: the deployment's log has what the replica wrote")
    }
}

/// What a model server answers to, each passed on to a replica.
fn routes(front: Front) -> Routes {
    let add = |routes: Routes<Front>, entry: RouteEntry| {
        routes.route(entry.method, &entry.path, entry.permission, pass)
    };
    serving::model_server_table()
        .into_iter()
        .fold(Routes::new(Style::Asgard), add)
        .with_state(front)
}

async fn pass(State(front): State<Front>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    // The door's limit of bodies lies in the extensions.
    let limited = Request::from_parts(head.clone(), body);
    let body = Bytes::from_request(limited, &()).await.map_err(|refused| {
        let code = match refused.status().as_u16() {
            413 => Code::TooLarge,
            _ => Code::Invalid,
        };
        ApiError::new(code, refused.body_text())
    })?;
    front.answer(&head, body).await
}

/// The request as a replica gets it: from this machine, by nobody in particular.
fn forwarded(
    head: &request::Parts,
    body: Bytes,
) -> Result<hyper::Request<Full<Bytes>>, axum::http::Error> {
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = hyper::Request::builder()
        .method(head.method.clone())
        .uri(path);
    if let Some(headers) = request.headers_mut() {
        headers.clone_from(&head.headers);
        without_hops(headers);
        for name in [header::AUTHORIZATION, header::COOKIE, header::ORIGIN] {
            headers.remove(name);
        }
        headers.remove("sec-fetch-site");
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    request.body(Full::new(body))
}

fn passed_on(answer: hyper::Response<Bytes>, deployment_id: &str) -> Response {
    let (mut head, body) = answer.into_parts();
    without_hops(&mut head.headers);
    if let Ok(id) = HeaderValue::from_str(deployment_id) {
        head.headers.insert("x-asgard-deployment", id);
    }
    Response::from_parts(head, Body::from(body)).into_response()
}

/// Removes what is about one connection (RFC 9110, 7.6.1).
fn without_hops(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

/// A number from 0 to 99 for a request, such that of each hundred requests every number is the
/// turn of one, and neighbours are far apart.
fn turn(request: usize) -> u32 {
    // 61 and 100 have no divisor in common.
    u32::try_from(request % 100 * 61 % 100).unwrap_or(0)
}

/// Whose turn a number is, where each has as many of the hundred numbers as it has percent.
fn whose(percents: &[u32], turn: u32) -> usize {
    let mut below = 0;
    for (at, percent) in percents.iter().enumerate() {
        below += percent;
        if turn < below {
            return at;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::{turn, whose};

    #[test]
    fn every_deployment_gets_its_share_of_each_hundred_requests() {
        let percents = [90, 10];
        for start in [0, 7, 250] {
            let canary = (start..start + 100).filter(|r| whose(&percents, turn(*r)) == 1);
            assert_eq!(canary.count(), 10);
        }
        // The canary need not wait for a hundred requests.
        assert!((0..20).any(|request| whose(&percents, turn(request)) == 1));
        assert_eq!(whose(&[], 5), 0);
    }
}
