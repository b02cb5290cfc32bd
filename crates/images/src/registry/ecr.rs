//! Amazon ECR: its passwords, which last twelve hours, and its repositories, which must be made
//! before anything is pushed into them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use aws::{AwsKeys, Call, Caller, sign};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{ANSWER, Errand, Registries};
use crate::config::Config;
use crate::error::Error;
use crate::reference::Repository;

/// A password that names an end in the past is good for this long at least.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// They last twelve hours; none is trusted for longer than a day.
const LONGEST_LIFE_S: f64 = 24.0 * 3600.0;

/// What was learned of ECR.
#[derive(Default)]
pub(super) struct Ecr {
    /// By region.
    passwords: Mutex<HashMap<String, (String, Instant)>>,
    /// The repositories that are there.
    made: Mutex<HashSet<Repository>>,
    /// By region.
    callers: Mutex<HashMap<String, Caller>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorizations {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    /// Base64 of `AWS:PASSWORD`.
    authorization_token: String,
    expires_at: f64,
}

/// The region of a host that is an ECR, by its name or by the settings.
pub(super) fn region<'a>(config: &'a Config, host: &'a str) -> Option<&'a str> {
    if config.own_host() == Some(host) && config.ecr_region.is_some() {
        return config.ecr_region.as_deref();
    }
    // 123456789012.dkr.ecr.eu-central-1.amazonaws.com, or …dkr.ecr-fips…, ….amazonaws.com.cn
    let mut parts = host.splitn(5, '.');
    let (_, dkr, ecr) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, rest) = (parts.next()?, parts.next()?);
    let is_ecr = dkr == "dkr" && matches!(ecr, "ecr" | "ecr-fips");
    (is_ecr && matches!(rest, "amazonaws.com" | "amazonaws.com.cn")).then_some(region)
}

impl Registries {
    /// The `Authorization` of an ECR and until when it lasts; nothing for other registries.
    pub(super) async fn ecr_password(
        &self,
        errand: &Errand<'_>,
    ) -> Result<Option<(String, Instant)>, Error> {
        let Some(region) = region(&self.inner.config, &errand.to.host) else {
            return Ok(None);
        };
        let mut known = self.inner.ecr.passwords.lock().await;
        if let Some((password, until)) = known.get(region)
            && Instant::now() < *until
        {
            return Ok(Some((password.clone(), *until)));
        }
        let answer = self
            .ecr_call(errand, region, "GetAuthorizationToken", &json!({}))
            .await?;
        let read = answer.map_err(|said| errand.refused(said.1))?;
        let read: Authorizations = serde_json::from_value(read)
            .map_err(|_| errand.refused("ECR answers something that is no password"))?;
        let first = read.authorization_data.into_iter().next();
        let first = first.ok_or_else(|| errand.refused("ECR gives no password"))?;
        let left = first.expires_at - OffsetDateTime::now_utc().unix_timestamp() as f64;
        // Renewed before its end, so that what begins with it ends with it.
        let left =
            Duration::from_secs_f64((left * 0.8).clamp(0.0, LONGEST_LIFE_S)).max(SHORTEST_LIFE);
        let fresh = (
            format!("Basic {}", first.authorization_token),
            Instant::now() + left,
        );
        known.insert(region.to_owned(), fresh.clone());
        Ok(Some(fresh))
    }

    /// Makes the repository of an ECR that is to be pushed into.
    pub(crate) async fn prepare(&self, repository: &Repository) -> Result<(), Error> {
        let Some(region) = region(&self.inner.config, &repository.host) else {
            return Ok(());
        };
        let mut made = self.inner.ecr.made.lock().await;
        if made.contains(repository) {
            return Ok(());
        }
        let errand = Errand::write(repository, format!("make the repository {repository}"));
        let body = json!({ "repositoryName": repository.path });
        match self
            .ecr_call(&errand, region, "CreateRepository", &body)
            .await?
        {
            Ok(_) => tracing::info!(%repository, "a repository of ECR is made"),
            Err((kind, _)) if kind.ends_with("RepositoryAlreadyExistsException") => {}
            Err((_, said)) => return Err(errand.refused(said)),
        }
        made.insert(repository.clone());
        Ok(())
    }

    /// One call of ECR's own; what it refuses by its name and in its words.
    async fn ecr_call(
        &self,
        errand: &Errand<'_>,
        region: &str,
        name: &str,
        body: &Value,
    ) -> Result<Result<Value, (String, String)>, Error> {
        let config = &self.inner.config;
        let keys = self.keys(errand, region).await?;
        let endpoint = match &config.ecr_endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let china = errand.to.host.ends_with(".cn");
                let domain = if china {
                    "amazonaws.com.cn"
                } else {
                    "amazonaws.com"
                };
                format!("https://api.ecr.{region}.{domain}")
            }
        };
        let url = reqwest::Url::parse(&endpoint).map_err(|_| Error::Config {
            message: format!("images.ecr_endpoint {endpoint:?} is no URL"),
            help: "write it like https://api.ecr.eu-central-1.amazonaws.com".to_owned(),
        })?;
        let host = url.host_str().unwrap_or_default();
        let named = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{name}");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        let body = body.to_string();
        let call = Call {
            host: &named,
            service: "ecr",
            region,
            headers: &headers,
            body: &body,
        };
        let mut request = self.client(&named)?.post(url.clone()).timeout(ANSWER);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in sign(&call, &keys, OffsetDateTime::now_utc()) {
            request = request.header(name, value);
        }
        let unreachable = |e: reqwest::Error| Error::Unreachable {
            host: named.clone(),
            attempt: errand.attempt.clone(),
            source: e.without_url(),
        };
        let response = request
            .body(body.clone())
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let read: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(Ok(read));
        }
        let kind = read["__type"].as_str().unwrap_or_default().to_owned();
        let said = read["message"].as_str().or(read["Message"].as_str());
        let said = format!("ECR answers {status}: {kind} {}", said.unwrap_or_default());
        if status == StatusCode::FORBIDDEN || kind.contains("Denied") || kind.contains("Token") {
            return Err(Error::Denied {
                host: named,
                attempt: errand.attempt.clone(),
                reason: said,
                help: "check the AWS keys and their policy: ecr:GetAuthorizationToken, ecr:CreateRepository and the push actions".to_owned(),
            });
        }
        Ok(Err((kind, said)))
    }

    /// The keys of who asks.
    async fn keys(&self, errand: &Errand<'_>, region: &str) -> Result<AwsKeys, Error> {
        let mut callers = self.inner.ecr.callers.lock().await;
        let caller = match callers.get(region) {
            Some(caller) => caller.clone(),
            None => {
                let caller = caller(&self.inner.config, region)?;
                callers.insert(region.to_owned(), caller.clone());
                caller
            }
        };
        drop(callers);
        caller.keys().await.map_err(|error| nobody(errand, &error))
    }
}

fn caller(config: &Config, region: &str) -> Result<Caller, Error> {
    let pem = match &config.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(Error::file("read images.ca_file", path))?),
        None => None,
    };
    Caller::new(&config.aws, region, pem.as_deref()).map_err(|error| Error::Config {
        message: format!("the AWS variables of the environment cannot be used: {error}"),
        help: "set AWS_ACCESS_KEY_ID together with AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN together with AWS_WEB_IDENTITY_TOKEN_FILE; images.ca_file must hold certificates in PEM form".to_owned(),
    })
}

fn nobody(errand: &Errand<'_>, error: &dyn std::error::Error) -> Error {
    Error::Denied {
        host: errand.to.host.clone(),
        attempt: errand.attempt.clone(),
        reason: format!("there are no AWS credentials to ask ECR with: {error}"),
        help: "give the pod a role (IRSA or EKS Pod Identity) or the machine one, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where there is one), or images.username AWS with the password of 'aws ecr get-login-password'".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecr_is_known_by_its_name_or_by_the_settings() {
        let config = Config {
            registry: Some("127.0.0.1:5000/team".to_owned()),
            ecr_region: Some("eu-west-1".to_owned()),
            ..Config::default()
        };
        let of = |host| region(&config, host);
        assert_eq!(
            of("123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
            Some("eu-central-1")
        );
        assert_eq!(
            of("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"),
            Some("cn-north-1")
        );
        assert_eq!(of("127.0.0.1:5000"), Some("eu-west-1"));
        assert_eq!(of("registry.example.org"), None);
        assert_eq!(of("x.dkr.ecr.eu-west-1.evil.example"), None);
    }
}
