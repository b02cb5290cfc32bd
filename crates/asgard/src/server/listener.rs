//! Accepting connections, and letting them end when the server stops.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures_util::StreamExt as _;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Address;

/// How long a connection may take to send a request's head, also between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// What a client of HTTP/2 sends first (RFC 9113, 3.4); no request of HTTP/1 begins like it.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a silent HTTP/2 connection is asked whether its client is still there.
const HTTP2_PING: Duration = Duration::from_secs(60);

/// How many requests a client may have open on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 256;

/// A bound address that is not served yet.
pub struct Listener(Socket);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// What to do about it.
    pub fn help(&self) -> String {
        let port = self.address.port();
        match self.source.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program listens there; stop it, or choose another port: --listen {}:{}",
                self.address.ip(),
                port.wrapping_add(1)
            ),
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are for root; choose a higher one".to_owned()
            }
            _ => "the host must be an address of this machine".to_owned(),
        }
    }
}

impl Listener {
    /// Binds an address; connections wait until it is served.
    ///
    /// # Errors
    /// When the address is taken, forbidden, or not this machine's.
    pub async fn bind(address: Address) -> Result<Self, BindError> {
        let bound = TcpListener::bind(address.0).await;
        let bound = bound.map(|listener| Self(Socket::Tcp(listener)));
        bound.map_err(|source| BindError {
            address: address.0,
            source,
        })
    }

    /// Takes a listener that was bound elsewhere, such as inside a job's network.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn adopt(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(|listener| Self(Socket::Tcp(listener)))
    }

    /// Takes a local socket that was bound elsewhere.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn adopt_local(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(|listener| Self(Socket::Unix(listener)))
    }

    /// The bound address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// For a local socket, which has none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr(),
            Socket::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Accepts a connection and serves it in `tasks`.
    async fn accept(
        &self,
        router: &Router,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let (router, stop) = (router.clone(), stop.clone());
        match &self.0 {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                tasks.spawn(connection(stream, router, stop));
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                tasks.spawn(speak_http1(stream, router, stop));
            }
        }
        Ok(())
    }
}

/// Serves `router` until `stop`; each connection is a task in `tasks` and ends after the request
/// it is answering.
pub async fn serve(
    listener: Listener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let router = router.layer(from_fn_with_state(stop.clone(), end_streams));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(&router, &tasks, &stop) => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(()) => {}
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely: some connection must end first.
                tracing::error!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection by the protocol that its client speaks.
async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection is gone already");
        return;
    }
    let speaks_http2 = tokio::select! {
        answer = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&stream)) => answer,
        () = stop.cancelled() => return,
    };
    match speaks_http2 {
        Ok(Ok(false)) => speak_http1(stream, router, stop).await,
        Ok(Ok(true)) => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(HTTP2_PING)
                .max_concurrent_streams(HTTP2_STREAMS)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            until_stopped(connection, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended before its first byte"),
        Err(_) => tracing::debug!("a connection said nothing for too long"),
    }
}

async fn speak_http1<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    until_stopped(connection, stop).await;
}

/// Whether the client speaks HTTP/2 in clear text, which gRPC does and tells by its first bytes.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let tell = || {
        let mut head = [0; HTTP2_PREFACE.len()];
        let (_, read) = rustix::net::recv(stream, &mut head[..], RecvFlags::PEEK)?;
        let alike = head[..read] == HTTP2_PREFACE[..read];
        if alike && (1..head.len()).contains(&read) {
            // The bytes stay where they are; the runtime tells when more have come.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(alike && read > 0)
    };
    stream.async_io(Interest::READABLE, tell).await
}

/// Serves a connection to its end; after `stop` it ends with the requests it is answering.
async fn until_stopped<C>(connection: C, stop: CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Lets streams of events end with the server: they would hold their connections for as long as
/// somebody listens, and whoever does comes back.
async fn end_streams(
    State(stop): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return response;
    }
    response.map(|body| {
        let stream = body.into_data_stream();
        Body::from_stream(stream.take_until(stop.cancelled_owned()))
    })
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
