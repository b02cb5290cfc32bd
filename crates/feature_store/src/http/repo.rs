//! `GET /feast/repo`: the `feature_store.yaml` that makes a Feast SDK speak with this server.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};
use web::{ApiError, Code, Permission, Query, Routes};

use crate::FeatureStore;
use crate::definition::check_name;
use crate::registry::PROJECT;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes.get("/feast/repo", Permission::ReadFeatures, repo)
}

#[derive(OpenApi)]
#[openapi(paths(repo))]
pub(super) struct Api;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RepoQuery {
    /// The project of the repository; absent: the one of everything that is defined over REST.
    project: Option<String>,
}

/// The `feature_store.yaml` of a Feast repository over this server, for the address by which it
/// was asked. Asked for with a key, it takes the key from the variable `ASGARD_TOKEN`.
#[utoipa::path(get, path = "/feast/repo", tag = "features", params(RepoQuery), responses((status = 200, content_type = "application/yaml", body = String), (status = 400, description = "that is no name of a project")))]
async fn repo(Query(query): Query<RepoQuery>, headers: HeaderMap) -> Result<Response, ApiError> {
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok());
    let keyed = headers.contains_key(header::AUTHORIZATION);
    let token = keyed.then_some(TOKEN_VARIABLE);
    let project = query.project.as_deref().unwrap_or(PROJECT);
    check_name("project name", project)?;
    let yaml = host.and_then(|host| yaml_of(project, host, token));
    let yaml = yaml.ok_or_else(|| {
        ApiError::new(
            Code::Invalid,
            "the request's Host names no address that a client could use",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], yaml).into_response())
}

/// Where the command line has its key, too.
const TOKEN_VARIABLE: &str = "ASGARD_TOKEN";

/// The configuration of a Feast repository for the server at `HOST:PORT`, with the variable that
/// holds the key to send, if one is needed. SDKs send a key of their own since 0.6x, under `oidc`.
pub fn feature_store_yaml(authority: &str, token_variable: Option<&str>) -> Option<String> {
    yaml_of(PROJECT, authority, token_variable)
}

fn yaml_of(project: &str, authority: &str, token_variable: Option<&str>) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port),
        _ => (authority, "80"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-[]:".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    // Values of other projects have paths of their own: the SDK does not say which it means.
    let path = match project {
        PROJECT => "/feast".to_owned(),
        other => format!("/feast/projects/{other}"),
    };
    let auth = match token_variable {
        Some(name) => format!("type: oidc\n  token_env_var: {name}"),
        None => "type: no_auth".to_owned(),
    };
    Some(format!(
        "project: {project}
provider: local
registry:
  registry_type: remote
  path: \"{host}:{port}\"
offline_store:
  type: remote
  host: \"{host}\"
  port: {port}
online_store:
  type: remote
  path: \"http://{host}:{port}{path}\"
entity_key_serialization_version: 3
auth:
  {auth}
"
    ))
}

#[cfg(test)]
mod tests {
    use super::feature_store_yaml;

    #[test]
    fn an_address_that_would_break_the_file_is_refused() {
        assert!(
            feature_store_yaml("localhost:8000", None).is_some_and(|y| y.contains("port: 8000"))
        );
        assert!(
            feature_store_yaml("[::1]:8000", None).is_some_and(|y| y.contains("\"[::1]:8000\""))
        );
        for wrong in ["", "a\"b:1", "a\nb"] {
            assert_eq!(feature_store_yaml(wrong, None), None);
        }
    }
}
