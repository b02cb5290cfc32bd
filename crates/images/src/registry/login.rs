//! What others log in with to pull what was pushed here: a file as `docker login` writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::credentials::{self, Credentials};
use super::{Errand, Registries, ecr};
use crate::config::{Config, Secret};
use crate::error::Error;
use crate::reference::Repository;

/// What names of images begin with that a login for `images.registry` is for; none where the settings
/// have none.
pub(crate) fn registries(config: &Config) -> Vec<String> {
    let (Some(registry), Some(host)) = (&config.registry, config.own_host()) else {
        return Vec::new();
    };
    // A file that cannot be read is told when a login is asked for.
    let unknown = matches!(credentials::of(config, host), Ok(None));
    if unknown && ecr::region(config, host).is_none() {
        return Vec::new();
    }
    let path = registry.trim_end_matches('/').split_once('/');
    let path = path.map_or_else(String::new, |(_, path)| format!("/{path}"));
    let named = credentials::names(host).into_iter();
    named.map(|name| format!("{name}{path}")).collect()
}

impl Registries {
    /// The login for `images.registry`, valid now; an ECR's ends within half a day. Nothing where the
    /// file of credentials has none.
    pub(crate) async fn login(&self) -> Result<Option<Secret>, Error> {
        let config = &self.inner.config;
        let Some(host) = config.own_host() else {
            return Ok(None);
        };
        let known = match credentials::of(config, host)? {
            Some(known) => Some(known),
            None => self.ecr_login(host).await?,
        };
        Ok(known.map(|known| file(host, &known)))
    }

    async fn ecr_login(&self, host: &str) -> Result<Option<Credentials>, Error> {
        let registry = Repository {
            host: host.to_owned(),
            path: String::new(),
        };
        let errand = Errand::read(&registry, "give a password for pulls");
        let Some((authorization, _)) = self.ecr_password(&errand).await? else {
            return Ok(None);
        };
        let encoded = authorization.trim_start_matches("Basic ");
        let decoded = STANDARD.decode(encoded).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        let (username, password) =
            pair.ok_or_else(|| errand.refused("ECR answers something that is no password"))?;
        Ok(Some(Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }))
    }
}

fn file(host: &str, known: &Credentials) -> Secret {
    let Credentials { username, password } = known;
    let login = json!({
        "username": username,
        "password": password,
        "auth": STANDARD.encode(format!("{username}:{password}")),
    });
    let names = credentials::names(host).into_iter();
    let auths: Map<String, Value> = names.map(|name| (name.to_owned(), login.clone())).collect();
    json!({ "auths": auths }).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(registry: &str) -> Config {
        Config {
            registry: Some(registry.to_owned()),
            username: Some("robot".to_owned()),
            password: Some("it:x".to_owned().into()),
            ..Config::default()
        }
    }

    #[test]
    fn a_registry_that_nobody_logs_in_to_has_no_login() {
        assert_eq!(registries(&Config::default()), [""; 0]);
        let open = Config {
            username: None,
            ..config("registry.example/team")
        };
        assert_eq!(registries(&open), [""; 0]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(
            &file,
            r#"{"auths": {"elsewhere.example": {"auth": "YTpi"}}}"#,
        )
        .unwrap();
        let elsewhere = Config {
            credentials_file: Some(file),
            ..open
        };
        assert_eq!(registries(&elsewhere), [""; 0]);
        assert_eq!(
            registries(&config("registry.example/team/")),
            ["registry.example/team"]
        );
        let ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
        let by_name = Config {
            username: None,
            ..config(&format!("{ecr}/team"))
        };
        assert_eq!(registries(&by_name), [format!("{ecr}/team")]);
    }

    #[tokio::test]
    async fn docker_hub_is_known_by_each_of_its_names() {
        let config = config("docker.io/me");
        let clients = Registries::new(config.clone()).unwrap();
        let login = clients.login().await.unwrap().unwrap();
        assert_eq!(format!("{login:?}"), "***");
        let file: Value = serde_json::from_str(login.expose()).unwrap();
        for name in credentials::names(config.own_host().unwrap()) {
            let entry = &file["auths"][name];
            assert_eq!(entry["username"], "robot", "{name}");
            assert_eq!(entry["password"], "it:x");
            assert_eq!(entry["auth"], STANDARD.encode("robot:it:x"));
        }
        assert!(file["auths"]["https://index.docker.io/v1/"].is_object());
        assert!(registries(&config).contains(&"docker.io/me".to_owned()));
    }
}
