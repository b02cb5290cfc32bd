//! Who asks: the challenge of a registry, and the token or password that meets it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use reqwest::header::WWW_AUTHENTICATE;
use serde::Deserialize;

use super::{ANSWER, Errand, Registries, credentials};
use crate::error::Error;

/// A token that names no end lives so long, says the token specification.
const UNNAMED_LIFE: u64 = 60;
/// No token is trusted for longer than a day, whatever its server says.
const LONGEST_LIFE: u64 = 24 * 3600;

/// The authorizations that registries gave, by host and scope.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<(String, String), Token>>);

struct Token {
    authorization: String,
    until: Option<Instant>,
}

impl Tokens {
    pub(super) fn known(&self, errand: &Errand<'_>) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&(errand.to.host.clone(), errand.scope.clone()))?;
        let lasts = token.until.is_none_or(|until| Instant::now() < until);
        lasts.then(|| token.authorization.clone())
    }

    fn keep(&self, errand: &Errand<'_>, token: Token) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert((errand.to.host.clone(), errand.scope.clone()), token);
    }
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Registries {
    /// Meets the challenge of a refusal: the value of the header to send.
    pub(super) async fn authorize(
        &self,
        errand: &Errand<'_>,
        refusal: Response,
    ) -> Result<String, Error> {
        let headers = refusal.headers().get_all(WWW_AUTHENTICATE);
        let challenge = headers
            .iter()
            .filter_map(|value| challenge(value.to_str().ok()?))
            .next_back();
        let Some(challenge) = challenge else {
            return Err(errand.unexpected(refusal).await);
        };
        let known = credentials::of(&self.inner.config, &errand.to.host)?;
        let mut until = None;
        let mut basic = known.map(|known| {
            let pair = format!("{}:{}", known.username, known.password);
            format!("Basic {}", STANDARD.encode(pair))
        });
        if basic.is_none()
            && let Some((password, end)) = self.ecr_password(errand).await?
        {
            (basic, until) = (Some(password), Some(end));
        }
        let token = match (challenge, basic) {
            (Challenge::Basic, Some(authorization)) => Token {
                authorization,
                until,
            },
            (Challenge::Basic, None) => {
                return Err(Error::Denied {
                    host: errand.to.host.clone(),
                    attempt: errand.attempt.clone(),
                    reason: "it asks for a name and a password".to_owned(),
                    help: credentials::help(&errand.to.host),
                });
            }
            (Challenge::Bearer { realm, service }, basic) => {
                self.token(errand, &realm, &service, basic).await?
            }
        };
        let authorization = token.authorization.clone();
        self.inner.tokens.keep(errand, token);
        Ok(authorization)
    }

    /// Asks the server that the registry names for a token.
    async fn token(
        &self,
        errand: &Errand<'_>,
        realm: &str,
        service: &str,
        basic: Option<String>,
    ) -> Result<Token, Error> {
        let url = reqwest::Url::parse(realm)
            .map_err(|_| errand.refused(format!("it names {realm:?} as its token server")))?;
        let name = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let may_be_plain = url.scheme() == "http" && self.may_be_plain(&host);
        if url.scheme() != "https" && !may_be_plain {
            let reason =
                format!("its token server {realm} has no TLS, and would be told a password");
            return Err(errand.refused(reason));
        }
        let mut query: Vec<(&str, &str)> = Vec::new();
        if !service.is_empty() {
            query.push(("service", service));
        }
        query.extend(errand.scope.split(' ').map(|scope| ("scope", scope)));
        let mut request = self.client(&host)?.get(url).query(&query).timeout(ANSWER);
        let anonymous = basic.is_none();
        if let Some(basic) = basic {
            request = request.header(reqwest::header::AUTHORIZATION, basic);
        }
        let response = request.send().await.map_err(|e| Error::Unreachable {
            host: host.clone(),
            attempt: format!("give a token for {}", errand.to),
            source: e.without_url(),
        })?;
        if !response.status().is_success() {
            return Err(match errand.unexpected(response).await {
                Error::Denied {
                    host,
                    attempt,
                    reason,
                    ..
                } if anonymous => Error::Denied {
                    help: credentials::help(&host),
                    host,
                    attempt,
                    reason,
                },
                other => other,
            });
        }
        let answer: Answer = response
            .json()
            .await
            .map_err(|_| errand.refused("its token server answers something else"))?;
        let token = answer.token.or(answer.access_token);
        let token = token.ok_or_else(|| errand.refused("its token server gives no token"))?;
        // Renewed before its end, so that what begins with it ends with it.
        let life = answer.expires_in.unwrap_or(UNNAMED_LIFE);
        let life = life.min(LONGEST_LIFE) * 4 / 5;
        Ok(Token {
            authorization: format!("Bearer {token}"),
            until: Some(Instant::now() + Duration::from_secs(life)),
        })
    }
}

/// Reads a `WWW-Authenticate` header; schemes that are not known are none.
fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parameters(rest);
    let named = |name: &str| {
        let mut found = parameters.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.clone())
    };
    Some(Challenge::Bearer {
        realm: named("realm")?,
        service: named("service").unwrap_or_default(),
    })
}

/// `key="value",key=value`; commas may stand inside quotes.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        let key = key.trim_matches([',', ' ']).to_ascii_lowercase();
        found.push((key, value.to_owned()));
        text = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_quotes() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        assert_eq!(
            challenge(header),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: "registry".to_owned()
            })
        );
        assert_eq!(challenge("basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(challenge("Negotiate"), None);
        assert_eq!(challenge("Bearer service=x"), None);
    }
}
