//! The settings of one catalog, `[feature_store.catalogs.NAME]`.

use std::time::Duration;

use aws::AwsVariables;
use serde::{Deserialize, Serialize};
use web::Secret;

use crate::error::Error;
use crate::store;

/// The longest that one request to the bucket of a table may take.
const BUCKET_PATIENCE: Duration = Duration::from_secs(60);

/// What an Iceberg catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogKind {
    /// A database, as pyiceberg's `sql` catalog has it.
    Sql,
    /// A server that speaks Iceberg's REST protocol.
    Rest,
    /// AWS Glue.
    Glue,
}

/// An Iceberg catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// Absent: `rest` where `uri` is `http://` or `https://`, else `sql`.
    #[serde(rename = "type")]
    pub kind: Option<CatalogKind>,
    /// SQL: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`. REST: the address before
    /// `/v1`. Glue: the address of the service, where it is not Amazon's own.
    pub uri: String,
    /// SQL: where new tables go, a folder (a path or `file://` URL) or `s3://BUCKET/PREFIX`. Glue:
    /// the same for databases without a place, in `s3://`. REST: the catalog's own name for it.
    pub warehouse: String,
    /// SQL: the name under which the catalog keeps its tables, when it is another one. Glue: the
    /// account's number, when it is another one than the credentials'.
    pub name: Option<String>,
    /// REST: the bearer token.
    pub token: Option<Secret>,
    /// REST: `CLIENT_ID:CLIENT_SECRET`, which OAuth2 exchanges for tokens.
    pub credential: Option<Secret>,
    /// REST: where they are exchanged, when it is not the catalog itself.
    pub oauth2_server_uri: Option<String>,
    /// REST: the scope of the tokens, when it is another one than `catalog`.
    pub scope: Option<String>,
    /// The address of a store that speaks S3; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`,
    /// else Amazon's own.
    pub endpoint: Option<String>,
    /// The region of bucket and Glue; absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is named in the path and not in the host name; absent: yes where an
    /// endpoint is set.
    pub path_style: Option<bool>,
}

impl CatalogConfig {
    /// Refuses what cannot be read, before anything is asked of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting and what it may be.
    pub(crate) fn check(&self, name: &str, variables: &AwsVariables) -> Result<(), Error> {
        let key = format!("feature_store.catalogs.{name}");
        let kind = self.kind(name)?;
        self.check_secrets(&key, kind)?;
        match kind {
            CatalogKind::Rest => {
                for (setting, address) in [
                    ("uri", Some(&self.uri)),
                    ("oauth2_server_uri", self.oauth2_server_uri.as_ref()),
                ] {
                    check_address(&key, setting, address)?;
                }
                Ok(())
            }
            CatalogKind::Glue => {
                self.glue_endpoint(name, "us-east-1", variables)?;
                match self.warehouse.is_empty() || self.warehouse.starts_with("s3://") {
                    true if self.warehouse.is_empty() => Ok(()),
                    true => self.check_bucket(name, variables),
                    false => Err(Error::Invalid(format!(
                        "{key}.warehouse: tables of Glue lie in s3://BUCKET/PREFIX"
                    ))),
                }
            }
            CatalogKind::Sql => {
                store::catalogs::Uri::parse(name, &self.uri)?;
                match self.warehouse.split_once("://") {
                    None if self.warehouse.is_empty() => Err(Error::Invalid(format!(
                        "{key}.warehouse is missing: say where tables go, as /PATH or s3://BUCKET/PREFIX"
                    ))),
                    None | Some(("file", _)) => Ok(()),
                    Some(("s3", _)) => self.check_bucket(name, variables),
                    Some((scheme, _)) => Err(Error::Invalid(format!(
                        "{key}.warehouse: tables in {scheme}:// cannot be read; give a folder, as /PATH or file:///PATH, or s3://BUCKET/PREFIX"
                    ))),
                }
            }
        }
    }

    /// What the catalog is, said or told by its address.
    ///
    /// # Errors
    /// When there is neither.
    pub(crate) fn kind(&self, name: &str) -> Result<CatalogKind, Error> {
        let by_uri = || match self.uri.split_once(':') {
            Some(("http" | "https", _)) => Some(CatalogKind::Rest),
            Some(_) => Some(CatalogKind::Sql),
            None => None,
        };
        self.kind.or_else(by_uri).ok_or_else(|| {
            Error::Invalid(format!(
                "feature_store.catalogs.{name}.uri: give sqlite:///PATH, postgresql://USER:PASSWORD@HOST/NAME or https://HOST/PATH of a REST catalog, or set type = \"glue\""
            ))
        })
    }

    fn check_secrets(&self, key: &str, kind: CatalogKind) -> Result<(), Error> {
        let given = [
            ("token", self.token.is_some()),
            ("credential", self.credential.is_some()),
            ("oauth2_server_uri", self.oauth2_server_uri.is_some()),
            ("scope", self.scope.is_some()),
        ];
        let misplaced = given.iter().find(|(_, given)| *given);
        match misplaced {
            Some((setting, _)) if kind != CatalogKind::Rest => Err(Error::Invalid(format!(
                "{key}.{setting} is for REST catalogs; AWS credentials come from the environment, those of a database stand in its uri"
            ))),
            _ if self.token.is_some() && self.credential.is_some() => Err(Error::Invalid(format!(
                "{key} has both token and credential: give the token, or what is exchanged for tokens"
            ))),
            _ => Ok(()),
        }
    }

    /// Where Glue answers.
    ///
    /// # Errors
    /// When that is no URL, or one with a path.
    pub(crate) fn glue_endpoint(
        &self,
        name: &str,
        region: &str,
        variables: &AwsVariables,
    ) -> Result<reqwest::Url, Error> {
        let set = (!self.uri.is_empty()).then_some(self.uri.as_str());
        let known = ["AWS_ENDPOINT_URL_GLUE", "AWS_ENDPOINT_URL"];
        let known = || known.into_iter().find_map(|name| variables.get(name));
        let address = set.or_else(known).map_or_else(
            || {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://glue.{region}.amazonaws.com{china}")
            },
            str::to_owned,
        );
        let key = format!("feature_store.catalogs.{name}");
        let url = check_address(&key, "uri", Some(&address))?.expect("an address was given");
        if url.path() != "/" || url.query().is_some() {
            return Err(Error::Invalid(format!(
                "{key}.uri {address:?} has a path: Glue answers at the root of a host, as https://glue.eu-west-1.amazonaws.com"
            )));
        }
        Ok(url)
    }

    fn check_bucket(&self, name: &str, variables: &AwsVariables) -> Result<(), Error> {
        let tried = aws::Bucket::parse(&self.warehouse)
            .map_err(|cause| (format!("feature_store.catalogs.{name}.warehouse: "), cause))
            .and_then(|bucket| {
                // What it refuses names the setting itself.
                aws::client(&self.s3(name), variables, bucket.name, None)
                    .map_err(|cause| (String::new(), cause))
            });
        match tried {
            Ok(_) => Ok(()),
            Err((setting, cause)) => Err(Error::Invalid(format!("{setting}{cause}"))),
        }
    }

    /// Where the buckets of the catalog's tables are.
    pub(crate) fn s3(&self, name: &str) -> aws::Settings {
        aws::Settings {
            section: format!("feature_store.catalogs.{name}"),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            request_timeout: Some(BUCKET_PATIENCE),
        }
    }
}

fn check_address(
    key: &str,
    setting: &str,
    address: Option<&String>,
) -> Result<Option<reqwest::Url>, Error> {
    let Some(address) = address else {
        return Ok(None);
    };
    let url = reqwest::Url::parse(address).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(Some).ok_or_else(|| {
        Error::Invalid(format!(
            "{key}.{setting} {address:?} is not a URL such as https://catalog.example.com/api"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::{CatalogConfig, CatalogKind};

    #[test]
    fn a_catalog_that_cannot_be_read_is_refused_with_what_can() {
        let check = |uri: &str, warehouse: &str| {
            let config = CatalogConfig {
                uri: uri.to_owned(),
                warehouse: warehouse.to_owned(),
                ..CatalogConfig::default()
            };
            let variables = Default::default();
            config
                .check("lake", &variables)
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(check("sqlite:////srv/c.db", "/srv"), None);
        assert_eq!(check("postgresql+psycopg2://h/d", "file:///srv"), None);
        assert_eq!(check("sqlite:////srv/c.db", "s3://bucket/w"), None);
        for (uri, warehouse, named) in [
            ("/srv/c.db", "/srv", "feature_store.catalogs.lake.uri"),
            ("http://", "ml", "feature_store.catalogs.lake.uri"),
            ("sqlite:////srv/c.db", "", "warehouse is missing"),
            ("mysql://h/d", "/srv", "sqlite:///PATH"),
            (
                "sqlite:////srv/c.db",
                "gs://bucket/w",
                "gs:// cannot be read",
            ),
            ("sqlite:////srv/c.db", "s3:///w", "write it as s3://BUCKET"),
        ] {
            let refused = check(uri, warehouse).unwrap();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn what_a_kind_of_catalog_does_not_have_is_refused() {
        let check = |config: &CatalogConfig| {
            let refused = config.check("lake", &Default::default()).err();
            refused.map(|error| error.to_string())
        };
        let rest = CatalogConfig {
            uri: "https://catalog/api".to_owned(),
            token: Some("t".to_owned().into()),
            ..CatalogConfig::default()
        };
        assert_eq!(check(&rest), None);
        let glue = CatalogConfig {
            kind: Some(CatalogKind::Glue),
            warehouse: "s3://bucket/lake".to_owned(),
            ..CatalogConfig::default()
        };
        assert_eq!(check(&glue), None);
        let with_path = CatalogConfig {
            uri: "https://gateway.example.com/glue".to_owned(),
            ..glue.clone()
        };
        assert!(check(&with_path).unwrap().contains("lake.uri"));
        let both = CatalogConfig {
            credential: Some("id:secret".to_owned().into()),
            ..rest.clone()
        };
        assert!(check(&both).unwrap().contains("both token and credential"));
        let misplaced = CatalogConfig {
            token: rest.token,
            ..glue.clone()
        };
        assert!(check(&misplaced).unwrap().contains("lake.token"));
        let folder = CatalogConfig {
            warehouse: "/srv".to_owned(),
            ..glue
        };
        assert!(check(&folder).unwrap().contains("lake.warehouse"));
    }
}
