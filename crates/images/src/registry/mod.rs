//! Speaking to registries: the OCI distribution protocol 1.1.
//!
//! Written on reqwest rather than with a ready client, for what pushing layers of hundreds of
//! megabytes needs: mounting from another repository under one token for both, uploads that go on
//! where the connection broke, manifests sent as the very bytes that were hashed.

mod auth;
mod blobs;
mod credentials;
mod ecr;
mod login;
mod manifests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

pub(crate) use blobs::Mounted;
pub(crate) use login::registries as login_registries;

use crate::config::Config;
use crate::error::Error;
use crate::reference::Repository;

/// How often a request is sent before its failure is told.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a registry may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an answer without a body to speak of may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The most of an error's text that is repeated.
const WORDS: usize = 500;

/// All registries, with what was learned about them; cheap to clone.
#[derive(Clone)]
pub(crate) struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// For this machine: without a proxy, and without reading the system's certificates.
    near: Client,
    far: std::sync::OnceLock<Client>,
    tokens: auth::Tokens,
    ecr: ecr::Ecr,
}

/// What a request is for: where, what it may do there, and how a message tells it.
pub(crate) struct Errand<'a> {
    to: &'a Repository,
    scope: String,
    attempt: String,
    tries: u32,
}

impl<'a> Errand<'a> {
    fn read(to: &'a Repository, attempt: impl Into<String>) -> Self {
        Self {
            to,
            scope: format!("repository:{}:pull", to.path),
            attempt: attempt.into(),
            tries: TRIES,
        }
    }

    fn write(to: &'a Repository, attempt: impl Into<String>) -> Self {
        Self {
            to,
            scope: format!("repository:{}:pull,push", to.path),
            attempt: attempt.into(),
            tries: TRIES,
        }
    }

    /// Sent once only: its body goes on from where the last one ended.
    fn once(mut self) -> Self {
        self.tries = 1;
        self
    }

    fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Refused {
            host: self.to.host.clone(),
            attempt: self.attempt.clone(),
            reason: reason.into(),
        }
    }

    /// What an answer says that is not the one wanted.
    async fn unexpected(&self, response: Response) -> Error {
        let status = response.status();
        let (host, attempt) = (self.to.host.clone(), self.attempt.clone());
        let reason = words(response).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
                help: format!(
                    "check that the credentials for {host} may do that with {} (images.username and images.password_file, or images.credentials_file)",
                    self.to
                ),
                host,
                attempt,
                reason,
            },
            StatusCode::NOT_FOUND => Error::NotFound {
                what: format!("{} ({reason})", self.to.path),
                host,
            },
            _ => Error::Refused {
                host,
                attempt,
                reason,
            },
        }
    }
}

impl Registries {
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let near = builder()
            .no_proxy()
            .tls_built_in_root_certs(false)
            .build()
            .map_err(|e| unusable(&e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                near,
                far: std::sync::OnceLock::new(),
                tokens: auth::Tokens::default(),
                ecr: ecr::Ecr::default(),
            }),
        })
    }

    fn client(&self, host: &str) -> Result<&Client, Error> {
        if is_this_machine(host) {
            return Ok(&self.inner.near);
        }
        if let Some(client) = self.inner.far.get() {
            return Ok(client);
        }
        let mut client = builder();
        if let Some(path) = &self.inner.config.ca_file {
            let pem = std::fs::read(path).map_err(Error::file("read images.ca_file", path))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))?;
            client = found
                .into_iter()
                .fold(client, |c, one| c.add_root_certificate(one));
        }
        let client = client.build().map_err(|e| unusable(&e))?;
        Ok(self.inner.far.get_or_init(|| client))
    }

    fn url(&self, repository: &Repository, path: &str) -> String {
        let Repository { host, path: name } = repository;
        let scheme = self.scheme(host);
        format!("{scheme}://{host}/v2/{name}/{path}")
    }

    /// Whether a URL leads to a registry itself, the way it is spoken to: uploads may go on
    /// elsewhere, where nobody is told a password.
    fn is_at(&self, url: &Url, host: &str) -> bool {
        let own = Url::parse(&format!("{}://{host}/", self.scheme(host)));
        own.is_ok_and(|own| own.origin() == url.origin())
    }

    fn scheme(&self, host: &str) -> &'static str {
        match self.may_be_plain(host) {
            true => "http",
            false => "https",
        }
    }

    /// Whether a host is spoken to without TLS.
    fn may_be_plain(&self, host: &str) -> bool {
        self.inner
            .config
            .plain_http
            .iter()
            .any(|plain| plain == host)
            || is_this_machine(host)
    }

    /// Sends a request until it is answered by something that another try would not change.
    async fn send(
        &self,
        errand: &Errand<'_>,
        request: impl Fn(&Client) -> Result<RequestBuilder, Error>,
    ) -> Result<Response, Error> {
        let client = self.client(&errand.to.host)?;
        let mut authorization = self.inner.tokens.known(errand);
        let (mut tried, mut pause, mut asked) = (0, FIRST_PAUSE, false);
        loop {
            let mut this = request(client)?.build().map_err(|e| unusable(&e))?;
            if let Some(value) = &authorization
                && self.is_at(this.url(), &errand.to.host)
            {
                let value = HeaderValue::try_from(value)
                    .map_err(|_| errand.refused("its token holds what no header can"))?;
                this.headers_mut().insert(AUTHORIZATION, value);
            }
            tried += 1;
            let wait = match client.execute(this).await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !asked => {
                    asked = true;
                    tried -= 1;
                    authorization = Some(self.authorize(errand, response).await?);
                    continue;
                }
                Ok(response) if !may_pass(response.status()) || tried >= errand.tries => {
                    return Ok(response);
                }
                Ok(response) => asked_pause(&response).unwrap_or(pause),
                Err(error) if tried >= errand.tries => {
                    return Err(Error::Unreachable {
                        host: errand.to.host.clone(),
                        attempt: errand.attempt.clone(),
                        source: error.without_url(),
                    });
                }
                Err(_) => pause,
            };
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .connect_timeout(Duration::from_secs(15))
        .user_agent(concat!("asgard/", env!("CARGO_PKG_VERSION")))
}

fn unusable(error: &reqwest::Error) -> Error {
    Error::Config {
        message: format!("the connection to registries cannot be set up: {error}"),
        help: "images.ca_file must hold certificates in PEM form".to_owned(),
    }
}

/// Whether a host is this machine, which is spoken to without TLS.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn may_pass(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn asked_pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?).min(LONGEST_PAUSE))
}

/// What a registry says in its error: the messages of its JSON, or the beginning of its text.
async fn words(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let said = match serde_json::from_str::<Errors>(&text) {
        Ok(Errors { errors }) => {
            let each = errors.into_iter().map(|said| match said.message.as_str() {
                "" => said.code,
                message => message.to_owned(),
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Err(_) => text.trim().chars().take(WORDS).collect(),
    };
    match said.as_str() {
        "" => format!("it answers {status}"),
        said => format!("it answers {status}: {said}"),
    }
}
