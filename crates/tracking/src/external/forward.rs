//! Passing requests on: as they are, streaming both ways; those by which a job makes or changes
//! something only after they have been read.

use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, request, response};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::RequestBuilder;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::External;
use super::upstream::patient;
use crate::error::Error;

/// How long the server may take to answer a request, or rest within one.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for files: a server brings a large one to its own store before it answers.
const FILE_PATIENCE: Duration = Duration::from_secs(600);
/// The largest body of a job's request that is read before it is passed on.
const BODY_BYTES: usize = 16 * 1024 * 1024;

/// What is between two neighbours (RFC 9110, 7.6.1), and what this server and the external one
/// each decide for themselves.
const OWN_HEADERS: [&str; 16] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// A request of a job that changes something, read.
pub struct JobWrite {
    parts: request::Parts,
    /// The fields of the body.
    pub fields: Map<String, Value>,
}

impl JobWrite {
    /// Reads the fields that a job sends.
    ///
    /// # Errors
    /// [`Error::Body`] for what is no JSON object, and for names in another spelling than the
    /// API's own: the external server would take `runId` for `run_id`, unseen by the checks here.
    pub async fn read(request: Request) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES)
            .await
            .map_err(|_| Error::BodyTooLarge)?;
        let fields = match body.is_empty() {
            true => Map::new(),
            false => serde_json::from_slice(&body)
                .map_err(|error| Error::Body(format!("the body is not a JSON object: {error}")))?,
        };
        check_names(&fields)?;
        Ok(Self { parts, fields })
    }

    /// A field that is text, or a number in its place; `""` when it is absent.
    pub fn text(&self, name: &str) -> String {
        match self.fields.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Gives what is made a tag, in the place of any of this key.
    pub fn tag(&mut self, key: &str, value: &str) {
        let tags = self
            .fields
            .entry("tags")
            .or_insert_with(|| Value::from(Vec::<Value>::new()));
        if let Value::Array(tags) = tags {
            tags.retain(|tag| tag["key"] != key);
            tags.push(serde_json::json!({ "key": key, "value": value }));
        }
    }
}

/// Refuses field names that the external server reads as others.
pub(crate) fn check_names(fields: &Map<String, Value>) -> Result<(), Error> {
    match fields.keys().find(|name| name.contains(char::is_uppercase)) {
        Some(name) => Err(Error::Body(format!(
            "the field {name:?} is not one of MLflow's: their names are in snake_case"
        ))),
        None => Ok(()),
    }
}

impl External {
    /// Passes a request on and answers with what the server answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::NoAnswer`], [`Error::ExternalCredentials`].
    pub async fn forward(&self, request: Request) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let patience = patience(parts.uri.path());
        let query = parts.uri.query();
        let mut onward = self.onward(&parts, query)?;
        let (beat, beats) = watch::channel(());
        if !body.is_end_stream() {
            // Its length stands in the headers, where the caller gave one.
            let pieces = body
                .into_data_stream()
                .inspect(move |_| beat.send_replace(()));
            onward = onward.body(reqwest::Body::wrap_stream(pieces));
        }
        let answered = self.wait(onward, beats, patience).await?;
        let (status, headers) = (answered.status(), answered.headers().clone());
        let mut response = Response::new(Body::from_stream(patient(answered, patience)));
        *response.status_mut() = status;
        copy_headers(&headers, response.headers_mut());
        Ok(response)
    }

    /// Passes a job's request on once its fields are in order, and reads the answer whole.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub async fn forward_write(&self, write: JobWrite) -> Result<(response::Parts, Bytes), Error> {
        let JobWrite { mut parts, fields } = write;
        let patience = patience(parts.uri.path());
        // What stands beside the body would be another source of the same fields.
        parts.headers.remove("content-length");
        parts.headers.remove("content-type");
        parts.headers.remove("content-encoding");
        let onward = self.onward(&parts, None)?.json(&fields);
        let answered = self.upstream.send(onward, patience).await?;
        let mut response = Response::new(());
        *response.status_mut() = answered.status();
        copy_headers(answered.headers(), response.headers_mut());
        let (head, ()) = response.into_parts();
        let body = tokio::time::timeout(patience, self.upstream.read(answered)).await;
        let body = body.map_err(|_| self.upstream.no_answer(patience))??;
        Ok((head, body))
    }

    fn onward(&self, parts: &request::Parts, query: Option<&str>) -> Result<RequestBuilder, Error> {
        let method = parts.method.clone();
        let onward = self.upstream.request(method, parts.uri.path(), query)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &parts.headers {
            if !is_own(name) && !name.as_str().starts_with("sec-fetch-") {
                headers.append(name, value.clone());
            }
        }
        Ok(onward.headers(headers))
    }

    /// Waits for the head of the answer for as long as the body still moves.
    async fn wait(
        &self,
        request: RequestBuilder,
        mut beats: watch::Receiver<()>,
        patience: Duration,
    ) -> Result<reqwest::Response, Error> {
        let mut sending = pin!(request.send());
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return self.upstream.judge(sent),
                Ok(()) = beats.changed() => {}
                () = tokio::time::sleep(patience) => return Err(self.upstream.no_answer(patience)),
            }
        }
    }
}

fn is_own(name: &HeaderName) -> bool {
    OWN_HEADERS.contains(&name.as_str())
}

fn patience(path: &str) -> Duration {
    match path.contains("artifact") {
        true => FILE_PATIENCE,
        false => PATIENCE,
    }
}

fn copy_headers(from: &HeaderMap, into: &mut HeaderMap) {
    for (name, value) in from {
        if !is_own(name) {
            into.append(name, value.clone());
        }
    }
    // A file that somebody logged is shown under this server's name: no script of it may run.
    let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
    into.insert("content-security-policy", sandbox);
}
