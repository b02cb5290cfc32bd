//! Catalogs that speak Iceberg's REST protocol.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::{Catalog, CatalogBuilder as _};
use iceberg_catalog_rest::{RestCatalog, RestCatalogBuilder};

use super::files::Files;
use super::settings::CatalogConfig;
use crate::error::Error;

/// What exchanges the credential of a catalog for a token.
pub(super) struct Token(Arc<RestCatalog>);

impl Token {
    /// Takes a new token; the catalog uses it from now on.
    ///
    /// # Errors
    /// When none is given.
    pub(super) async fn renew(&self) -> iceberg::Result<()> {
        self.0.regenerate_token().await
    }
}

/// Opens the catalog. Nothing is asked of it yet.
///
/// # Errors
/// When the client cannot be made.
pub(super) async fn open(
    name: &str,
    config: &CatalogConfig,
    files: Files,
) -> Result<(Arc<dyn Catalog>, Option<Token>), Error> {
    let catalog = RestCatalogBuilder::default()
        .with_client(super::http_client()?)
        .with_storage_factory(Arc::new(files))
        .load(name, properties(config))
        .await
        .map_err(Error::iceberg(format!("catalog {name:?} cannot be opened")))?;
    let catalog = Arc::new(catalog);
    let token = config.credential.is_some().then(|| Token(catalog.clone()));
    Ok((catalog, token))
}

/// The settings by the names that REST clients have for them.
fn properties(config: &CatalogConfig) -> HashMap<String, String> {
    let secret = |secret: &Option<web::Secret>| secret.as_ref().map(|s| s.expose().to_owned());
    let warehouse = (!config.warehouse.is_empty()).then(|| config.warehouse.clone());
    let given = [
        ("uri", Some(config.uri.trim_end_matches('/').to_owned())),
        ("warehouse", warehouse),
        ("token", secret(&config.token)),
        ("credential", secret(&config.credential)),
        ("oauth2-server-uri", config.oauth2_server_uri.clone()),
        ("scope", config.scope.clone()),
        // A catalog that gives out credentials for its tables is asked for them.
        (
            "header.X-Iceberg-Access-Delegation",
            Some("vended-credentials".to_owned()),
        ),
    ];
    let given = given.into_iter();
    given
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}
