//! HTTP connections to one replica, kept for the next request.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

type Connection = SendRequest<Full<Bytes>>;

/// Connections that are kept while nobody uses them.
const IDLE: usize = 64;

/// The longest answer, in bytes: it is read whole, and model code decides how long it is.
pub(crate) const ANSWER_BYTES: usize = 256 << 20;

/// The connections to a replica.
#[derive(Debug)]
pub(crate) struct Pool {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    in_flight: AtomicUsize,
}

/// Why a replica did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("the connection broke within the answer")]
    CutShort(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is too long")]
    TooLong,
}

impl SendError {
    /// Whether the replica cannot have begun with the request.
    pub(crate) fn is_untouched(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            // Of a connection that was closed before anything was written to it.
            Self::Broken(error) => error.is_canceled(),
            Self::CutShort(_) | Self::TooLong => false,
        }
    }
}

impl Pool {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Requests that are being answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the replica cannot be reached, or dies over the request.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, SendError> {
        let _counted = Counted::of(&self.in_flight);
        let mut connection = self.connection().await?;
        let answer = connection.send_request(request).await;
        let (head, body) = answer.map_err(SendError::Broken)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => SendError::TooLong,
            false => SendError::CutShort(error),
        })?;
        let body = body.to_bytes();
        let mut idle = self.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        Ok(Response::from_parts(head, body))
    }

    /// Whether the replica says that it is well.
    pub(crate) async fn is_healthy(&self) -> bool {
        let request = Request::get("/health")
            .header(header::HOST, "localhost")
            .body(Full::default());
        let Ok(request) = request else { return false };
        let answer = self.send(request).await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Forgets the connections, for a process that has ended.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    async fn connection(&self) -> Result<Connection, SendError> {
        loop {
            let Some(mut kept) = self.lock().pop() else {
                break;
            };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = UnixStream::connect(&self.socket).await;
        let io = TokioIo::new(stream.map_err(SendError::Connect)?);
        let (connection, driver) = handshake(io).await.map_err(SendError::Broken)?;
        // Ends with the connection; what broke it is told to whoever uses it.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts for as long as it lives.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn of(counter: &'c AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
