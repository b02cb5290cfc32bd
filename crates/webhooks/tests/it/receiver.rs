//! A receiver of webhooks that answers as it is told and remembers what it heard.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use hmac::Mac as _;

pub(crate) struct Receiver {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<Letter>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Letter {
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Letter {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The signature that it must have.
    pub(crate) fn signed(&self, secret: &str) -> String {
        let (id, time) = (
            self.header("x-mlflow-delivery-id"),
            self.header("x-mlflow-timestamp"),
        );
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{id}.{time}.{}", self.body).as_bytes());
        let sum = mac.finalize().into_bytes();
        format!(
            "v1,{}",
            base64::engine::general_purpose::STANDARD.encode(sum)
        )
    }
}

impl Receiver {
    /// Answers with these statuses, one after the other, the last for ever.
    pub(crate) async fn start(statuses: &[u16]) -> Self {
        let statuses = statuses.to_vec();
        Self::answering(move |count| {
            let status = statuses[count.min(statuses.len() - 1)];
            StatusCode::from_u16(status).unwrap().into_response()
        })
        .await
    }

    pub(crate) async fn redirecting(url: &str) -> Self {
        let url = url.to_owned();
        Self::answering(move |_| {
            (
                StatusCode::TEMPORARY_REDIRECT,
                [(header::LOCATION, url.clone())],
            )
                .into_response()
        })
        .await
    }

    async fn answering(answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let letters = heard.clone();
        let app = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let (letters, answer) = (letters.clone(), answer.clone());
            async move {
                let body = String::from_utf8(body.to_vec()).unwrap();
                let mut letters = letters.lock().unwrap();
                letters.push(Letter { headers, body });
                answer(letters.len() - 1)
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, heard }
    }

    pub(crate) fn heard(&self) -> Vec<Letter> {
        self.heard.lock().unwrap().clone()
    }
}
