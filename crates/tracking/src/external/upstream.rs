//! The connection to an external MLflow server: its address, its credentials, and calls that end.

use std::time::Duration;

use axum::http::{HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, try_unfold};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Servers of MLflow close a connection that rests for 5 seconds; one that may be closed at any
/// moment is not used again.
const REST: Duration = Duration::from_secs(3);
/// The largest answer that is read whole.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// How long an answer may take that somebody waits for.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// An external MLflow server; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: Client,
    /// Without credentials.
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Upstream {
    /// The server that the configuration names, if it names one; it is not asked yet.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, Error> {
        let Some(uri) = config.uri.as_deref().filter(|uri| !uri.is_empty()) else {
            return Ok(None);
        };
        // The text may hold a password: it is not shown.
        let mut base = Url::parse(uri)
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
            .filter(|url| url.query().is_none() && url.fragment().is_none())
            .ok_or(Error::ExternalSetting(
                "tracking.uri must be an address such as https://mlflow.example.org",
            ))?;
        let authorization = authorization(config, &base)?;
        // Of a URL with a host both succeed.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(REST)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| Error::Unreachable {
                url: base.to_string(),
                source: source.into(),
            })?;
        Ok(Some(Self {
            client,
            base,
            authorization,
        }))
    }

    /// The address, without credentials.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to a path as it stands in a URL, with its query.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] when the path would be read as another one.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<RequestBuilder, Error> {
        let mut url = self.base.clone();
        let whole = format!("{}{path}", self.base.path().trim_end_matches('/'));
        url.set_path(&whole);
        // `..` in any spelling has been taken away by now.
        if url.path() != whole {
            return Err(Error::InvalidPath {
                path: path.to_owned(),
                reason: "it is not written as the path that it means",
            });
        }
        url.set_query(query);
        Ok(self.authorized(self.client.request(method, url)))
    }

    /// A request for a file or folder of the artifact proxy, by its names.
    pub(crate) fn artifact(&self, method: Method, key: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut names) = url.path_segments_mut() {
            names.pop_if_empty();
            names.extend(["api", "2.0", "mlflow-artifacts", "artifacts"]);
            names.extend(key.split('/').filter(|name| !name.is_empty()));
        }
        self.authorized(self.client.request(method, url))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::NoAnswer`], [`Error::ExternalCredentials`].
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, Error> {
        match tokio::time::timeout(patience, request.send()).await {
            Ok(sent) => self.judge(sent),
            Err(_) => Err(self.no_answer(patience)),
        }
    }

    /// Turns a failure to connect, and a refusal of this server's own credentials, into errors.
    pub(crate) fn judge(&self, sent: reqwest::Result<Response>) -> Result<Response, Error> {
        let response = sent.map_err(|source| self.unreachable(source))?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Err(Error::ExternalCredentials {
                url: self.url().to_owned(),
            }),
            _ => Ok(response),
        }
    }

    pub(crate) fn no_answer(&self, waited: Duration) -> Error {
        Error::NoAnswer {
            url: self.url().to_owned(),
            waited_s: waited.as_secs(),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> Error {
        Error::Unreachable {
            url: self.url().to_owned(),
            source: source.without_url().into(),
        }
    }

    /// Asks a route of the API, `2.0/mlflow/...`, with fields in the query.
    pub(crate) async fn get(
        &self,
        route: &str,
        fields: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Value, Error> {
        let request = self.request(Method::GET, &format!("/api/{route}"), None)?;
        self.ask(request.query(fields), patience).await
    }

    /// Asks a route of the API, `2.0/mlflow/...`, with fields in the body.
    pub(crate) async fn post(
        &self,
        route: &str,
        fields: &Value,
        patience: Duration,
    ) -> Result<Value, Error> {
        self.tell(Method::POST, route, fields, patience).await
    }

    /// The same by another method.
    pub(crate) async fn tell(
        &self,
        method: Method,
        route: &str,
        fields: &Value,
        patience: Duration,
    ) -> Result<Value, Error> {
        let request = self.request(method, &format!("/api/{route}"), None)?;
        self.ask(request.json(fields), patience).await
    }

    async fn ask(&self, request: RequestBuilder, patience: Duration) -> Result<Value, Error> {
        let exchange = async {
            let response = self.judge(request.send().await)?;
            let status = response.status();
            let body = self.read(response).await?;
            self.json(status, &body)
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_answer(patience)),
        }
    }

    /// Reads an answer whole.
    pub(crate) async fn read(&self, mut response: Response) -> Result<Bytes, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| self.unreachable(source))?
        {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(self.answer(
                    StatusCode::BAD_GATEWAY,
                    None,
                    format!("its answer is larger than {ANSWER_BYTES} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The JSON of a good answer, or what the server said in a bad one.
    pub(crate) fn json(&self, status: StatusCode, body: &[u8]) -> Result<Value, Error> {
        let value = serde_json::from_slice::<Value>(body);
        if status.is_success() {
            return value.map_err(|error| {
                let message =
                    format!("its answer is no JSON, so it may be no MLflow server: {error}");
                self.answer(StatusCode::BAD_GATEWAY, None, message)
            });
        }
        let told = value.unwrap_or_default();
        let text = |key: &str| told[key].as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| format!("it answered {status}"));
        Err(self.answer(status, text("error_code"), message))
    }

    fn answer(&self, status: StatusCode, error_code: Option<String>, message: String) -> Error {
        Error::ExternalAnswer {
            url: self.url().to_owned(),
            status: status.as_u16(),
            error_code,
            message,
        }
    }
}

/// What the external server is sent to know asgard by.
fn authorization(config: &Config, base: &Url) -> Result<Option<HeaderValue>, Error> {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let token = given(config.token.as_ref().map(|token| token.expose()));
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text);
        text.decode_utf8_lossy().into_owned()
    };
    let username = given(config.username.as_deref()).or(given(Some(&decoded(base.username()))));
    let password = given(config.password.as_ref().map(|password| password.expose()))
        .or(given(base.password().map(decoded).as_deref()));
    let text = match (token, username, password) {
        (None, None, None) => return Ok(None),
        (Some(token), None, None) => format!("Bearer {token}"),
        (None, Some(name), Some(password)) => {
            format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
        }
        (Some(_), ..) => {
            return Err(Error::ExternalSetting(
                "tracking.token and tracking.username are both set: set the one that the server wants",
            ));
        }
        (None, ..) => {
            return Err(Error::ExternalSetting(
                "tracking.username and tracking.password must be set both or not at all",
            ));
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Error::ExternalSetting("the credentials in [tracking] hold a character that no header may")
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The body of an answer; whoever sends it may rest for `patience` between two parts.
pub(crate) fn patient(
    response: Response,
    patience: Duration,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    try_unfold(response, move |mut response| async move {
        match tokio::time::timeout(patience, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, response))),
            Ok(Err(error)) => Err(std::io::Error::other(error.without_url())),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, token: Option<&str>, login: Option<(&str, &str)>) -> Result<Upstream, Error> {
        let config = Config {
            uri: Some(uri.to_owned()),
            token: token.map(|token| token.to_owned().into()),
            username: login.map(|(name, _)| name.to_owned()),
            password: login.map(|(_, password)| password.to_owned().into()),
            ..Config::default()
        };
        Upstream::of(&config).map(Option::unwrap)
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let by = |upstream: Upstream| upstream.authorization.unwrap().to_str().unwrap().to_owned();
        let token = of("http://h:5000/", Some("hidden-token"), None).unwrap();
        assert!(!format!("{token:?}").contains("hidden"), "{token:?}");
        assert_eq!(by(token), "Bearer hidden-token");
        let login = of("http://h:5000", None, Some(("me", "hidden"))).unwrap();
        assert_eq!(by(login), "Basic bWU6aGlkZGVu");
        let inside = of("http://me:hidden@h:5000/mlflow", None, None).unwrap();
        assert_eq!(inside.url(), "http://h:5000/mlflow");
        assert!(!format!("{inside:?}").contains("hidden"), "{inside:?}");
        assert_eq!(by(inside), "Basic bWU6aGlkZGVu");
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_showing_it() {
        for uri in [
            "file:///x",
            "mlflow:hidden",
            "http://h?hidden",
            "sqlite:///hidden.db",
        ] {
            let error = of(uri, None, None).unwrap_err().to_string();
            assert!(
                error.contains("tracking.uri") && !error.contains("hidden"),
                "{error}"
            );
        }
        assert!(of("http://h", Some("t"), Some(("me", "p"))).is_err());
        assert!(of("http://me@h", None, None).is_err());
    }

    #[test]
    fn a_path_that_means_another_is_refused() {
        let upstream = of("http://h:5000/mlflow", None, None).unwrap();
        let url = |path: &str| {
            let request = upstream.request(Method::GET, path, Some("a=1"))?;
            Ok::<_, Error>(request.build().unwrap().url().to_string())
        };
        assert_eq!(
            url("/api/2.0/mlflow/runs/get").unwrap(),
            "http://h:5000/mlflow/api/2.0/mlflow/runs/get?a=1"
        );
        for path in [
            "/api/../admin",
            "/api/%2e%2e/admin",
            "/api/.%2E/x",
            "/api/./x",
        ] {
            assert!(url(path).is_err(), "{path}");
        }
        let file = upstream
            .artifact(Method::GET, "1/a b/100%.txt")
            .build()
            .unwrap();
        assert_eq!(
            file.url().path(),
            "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/a%20b/100%25.txt"
        );
    }
}
