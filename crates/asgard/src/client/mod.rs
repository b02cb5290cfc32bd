//! Speaking to a server over HTTP, and making its refusals failures of the command.

mod events;
mod words;

pub(crate) use events::{Event, Events};

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;

use crate::failure::{Exit, Failure, chain};

/// How long connecting may take; answers may take as long as they need.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const NOT_ASGARD: &str =
    "is that an asgard server? name another by --url or ASGARD_URL, or start one with 'asgard up'";

/// A server and the key to it.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Client {
    /// A client of the server at `url`.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        let Some(host) = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .filter(|host| !host.is_empty())
        else {
            return Err(
                Failure::new(Exit::Usage, format!("{url:?} is not the URL of a server"))
                    .help("write it like http://127.0.0.1:8000"),
            );
        };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("asgard/", env!("CARGO_PKG_VERSION")));
        if url.starts_with("http:") {
            // Reading all certificates of the system takes longer than most commands.
            builder = builder.tls_built_in_root_certs(false);
        }
        if ["127.", "localhost", "[::1]"]
            .iter()
            .any(|l| host.starts_with(l))
        {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder
                .build()
                .map_err(|e| Failure::of(Exit::Failure, &e))?,
            token: token.map(str::to_owned),
            url,
        })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Reads a JSON document.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let request = self.request(Method::GET, path).query(query);
        self.json(request).await
    }

    /// Sends a JSON document and reads the answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Puts a JSON document in its place and reads the answer.
    pub(crate) async fn put(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: &Value,
    ) -> Result<Value, Failure> {
        let request = self.request(Method::PUT, path).query(query);
        self.json(request.json(body)).await
    }

    /// Deletes what a query names and reads the answer.
    pub(crate) async fn delete_by(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Value, Failure> {
        self.json(self.request(Method::DELETE, path).query(query))
            .await
    }

    /// Deletes and reads the answer.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.delete_by(path, &[]).await
    }

    /// Deletes; the answer is empty.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), Failure> {
        let request = self.request(Method::DELETE, path);
        self.send(request).await.map(|_| ())
    }

    /// Reads a text.
    pub(crate) async fn text(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<String, Failure> {
        let request = self.request(Method::GET, path).query(query);
        let response = self.send(request).await?;
        response.text().await.map_err(|e| self.unreachable(&e))
    }

    /// Reads something long into a file.
    pub(crate) async fn download(
        &self,
        path: &str,
        file: &mut tokio::fs::File,
    ) -> Result<(), Failure> {
        use tokio::io::AsyncWriteExt as _;
        let mut response = self.send(self.request(Method::GET, path)).await?;
        let chunk = |e: reqwest::Error| self.unreachable(&e);
        while let Some(bytes) = response.chunk().await.map_err(chunk)? {
            let written = file.write_all(&bytes).await;
            written.map_err(|e| Failure::of(Exit::Failure, &e))?;
        }
        file.flush()
            .await
            .map_err(|e| Failure::of(Exit::Failure, &e))
    }

    /// Sends a file and reads the answer.
    pub(crate) async fn upload(
        &self,
        path: &str,
        query: &[(&str, String)],
        content_type: &str,
        file: tokio::fs::File,
    ) -> Result<Vec<u8>, Failure> {
        let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(file));
        let request = self
            .request(Method::POST, path)
            .query(query)
            .header(header::CONTENT_TYPE, content_type)
            .body(body);
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        Ok(bytes.into())
    }

    /// Opens a stream of server-sent events, after the event `last_id` if there was one.
    pub(crate) async fn events(&self, path: &str, last_id: &str) -> Result<Events, Failure> {
        let mut request = self
            .request(Method::GET, path)
            .header(header::ACCEPT, "text/event-stream");
        if !last_id.is_empty() {
            request = request.header("last-event-id", last_id);
        }
        let response = self.send(request).await?;
        Ok(Events::new(response.bytes_stream()))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        serde_json::from_slice(&bytes).map_err(|_| self.no_asgard("something that is not JSON"))
    }

    /// The failure of an answer that no asgard server gives.
    pub(crate) fn no_asgard(&self, answer: &str) -> Failure {
        let message = format!("{} answered {answer}", self.url);
        Failure::new(Exit::Failure, message).help(NOT_ASGARD)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        Err(self.refused(status, &body))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        // The outermost words repeat the URL.
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), chain);
        Failure::new(
            Exit::Unreachable,
            format!("no server answers at {}: {cause}", self.url),
        )
        .help("start one with 'asgard up', or name another by --url or ASGARD_URL")
    }

    fn refused(&self, status: StatusCode, body: &Value) -> Failure {
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::CONFLICT => Exit::Conflict,
            _ => Exit::Failure,
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(message) = text("message").or_else(|| text("detail")) else {
            let message = format!("{} answered {status}, and not as asgard does", self.url);
            return Failure::new(exit, message).help(NOT_ASGARD);
        };
        let failure = Failure::new(exit, message).request_id(text("request_id"));
        match (text("help"), exit, &self.token) {
            (_, Exit::Denied, None) => failure
                .help("set ASGARD_TOKEN to a key; 'asgard keys create' makes one on the server"),
            (Some(help), ..) => failure.help(words::in_commands(&help)),
            _ => failure,
        }
    }
}
