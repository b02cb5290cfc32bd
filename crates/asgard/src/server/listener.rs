//! Accepting connections, and letting them end when the server stops.

use std::io::{self, Cursor};
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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Chain, Join, join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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
    let begun = tokio::select! {
        begun = tokio::time::timeout(HEAD_TIMEOUT, begin(stream)) => begun,
        () = stop.cancelled() => return,
    };
    match begun {
        Ok(Ok((stream, false))) => speak_http1(stream, router, stop).await,
        Ok(Ok((stream, true))) => {
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

/// A connection whose first bytes were read, and come once more.
type Begun = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

/// Reads as much as tells whether the client speaks HTTP/2 in clear text, which gRPC does.
async fn begin(stream: TcpStream) -> io::Result<(Begun, bool)> {
    let (mut reader, writer) = stream.into_split();
    let mut head = Vec::with_capacity(HTTP2_PREFACE.len());
    let mut alike = true;
    while alike && head.len() < HTTP2_PREFACE.len() {
        let missing = HTTP2_PREFACE.len() - head.len();
        let mut begin = (&mut reader).take(missing as u64);
        alike = begin.read_buf(&mut head).await? > 0 && HTTP2_PREFACE.starts_with(&head);
    }
    Ok((join(Cursor::new(head).chain(reader), writer), alike))
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn begun(sent: &[&[u8]]) -> (Vec<u8>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let begun = tokio::spawn(begin(server));
        for part in sent {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        let (mut stream, http2) = begun.await.unwrap().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        (all, http2)
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_come_once_more() {
        for (sent, http2) in [
            (&[b"GET / HTTP/1.1\r\n\r\n".as_slice()] as &[&[u8]], false),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more"], true),
            (&[b"PRI * HT", b"TP/2.0\r\n\r\n", b"SM\r\n\r\n"], true),
            (&[b"PRI * HTTP/1.1\r\n\r\n"], false),
            // A client that says a part of it and leaves.
            (&[b"P"], false),
            (&[], false),
        ] {
            let (all, told) = begun(sent).await;
            assert_eq!((all, told), (sent.concat(), http2));
        }
    }
}
