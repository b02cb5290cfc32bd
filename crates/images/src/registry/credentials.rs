//! The names and passwords that registries are told.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::config::Config;
use crate::error::Error;

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

/// What to do when there are none.
pub(super) fn help(host: &str) -> String {
    format!(
        "set images.username and images.password_file for the registry of images.registry, or images.credentials_file to a file that 'docker login {host}' wrote"
    )
}

/// What is known for a host: the settings for the registry that images are pushed to, else the
/// file of credentials.
pub(super) fn of(config: &Config, host: &str) -> Result<Option<Credentials>, Error> {
    if config.own_host() == Some(host)
        && let Some(username) = &config.username
    {
        let password = match (&config.password_file, &config.password) {
            (Some(path), _) => std::fs::read_to_string(path)
                .map_err(Error::file("read images.password_file", path))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            (None, Some(password)) => password.expose().to_owned(),
            (None, None) => {
                return Err(Error::Config {
                    message: "images.username is set, and no password".to_owned(),
                    help: "set images.password_file or images.password".to_owned(),
                });
            }
        };
        return Ok(Some(Credentials {
            username: username.clone(),
            password,
        }));
    }
    match &config.credentials_file {
        Some(path) => from_file(path, host),
        None => Ok(None),
    }
}

/// The form of `~/.docker/config.json`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Login>,
}

#[derive(Default, Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

fn from_file(path: &Path, host: &str) -> Result<Option<Credentials>, Error> {
    let text = std::fs::read(path).map_err(Error::file("read images.credentials_file", path))?;
    let unreadable = |reason: String| {
        Error::Config {
        message: format!("{} cannot be used: {reason}", path.display()),
        help: "images.credentials_file has the form of ~/.docker/config.json: {\"auths\": {\"HOST\": {\"auth\": \"base64 of name:password\"}}}".to_owned(),
    }
    };
    let read: DockerConfig =
        serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
    let login = names(host)
        .into_iter()
        .find_map(|name| read.auths.get(name));
    let Some(login) = login else {
        return Ok(None);
    };
    let decoded = STANDARD.decode(login.auth.trim()).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let Some((username, password)) = pair else {
        let reason = format!("its entry for {host} has no name and password");
        return Err(unreadable(reason));
    };
    Ok(Some(Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
    }))
}

/// How such a file, and names of images, may call a host.
pub(super) fn names(host: &str) -> Vec<&str> {
    match host {
        "registry-1.docker.io" => vec![
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            host,
        ],
        host => vec![host],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_docker_login_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let auth = STANDARD.encode("me:it:x");
        let text = format!(
            r#"{{"auths": {{"r.example": {{"auth": "{auth}"}}, "https://index.docker.io/v1/": {{"auth": "{auth}"}}}}}}"#
        );
        std::fs::write(&file, text).unwrap();
        let config = Config {
            credentials_file: Some(file.path().to_owned()),
            registry: Some("own.example/team".to_owned()),
            username: Some("own".to_owned()),
            password: Some("secret".to_owned().into()),
            ..Config::default()
        };
        let password = |host: &str| of(&config, host).ok().unwrap().map(|c| c.password);
        assert_eq!(password("r.example").as_deref(), Some("it:x"));
        assert_eq!(password("registry-1.docker.io").as_deref(), Some("it:x"));
        assert_eq!(password("own.example").as_deref(), Some("secret"));
        assert_eq!(password("other.example"), None);
        assert!(!format!("{config:?}").contains("secret"));
        let config = Config {
            registry: Some("docker.io/me".to_owned()),
            ..config
        };
        let hub = of(&config, "registry-1.docker.io").ok().unwrap().unwrap();
        assert_eq!(hub.username, "own");
    }
}
