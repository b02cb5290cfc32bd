//! SQL catalogs, as pyiceberg's `sql` catalog has them.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::{Catalog, CatalogBuilder as _};
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalogBuilder};

use super::files::Files;
use super::settings::CatalogConfig;
use crate::error::Error;
use crate::store::catalogs::{Uri, prepare};

/// Opens the catalog, and makes its database's tables where they are missing.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn open(
    name: &str,
    config: &CatalogConfig,
    files: Files,
) -> Result<Arc<dyn Catalog>, Error> {
    let uri = Uri::parse(name, &config.uri)?;
    prepare(name, &uri).await?;
    let bind_style = if uri.is_sqlite() {
        SqlBindStyle::QMark
    } else {
        SqlBindStyle::DollarNumeric
    };
    let warehouse = if config.warehouse.contains("://") {
        config.warehouse.clone()
    } else {
        format!("file://{}", config.warehouse)
    };
    // One connection: SQLite has one writer, and a second one would see "database is locked".
    let props = HashMap::from([("pool.max-connections".to_owned(), "1".to_owned())]);
    let catalog = SqlCatalogBuilder::default()
        .uri(uri.as_str())
        .warehouse_location(warehouse.trim_end_matches('/'))
        .sql_bind_style(bind_style)
        .with_storage_factory(Arc::new(files))
        .load(config.name.as_deref().unwrap_or(name), props)
        .await
        .map_err(Error::iceberg(format!("catalog {name:?} cannot be opened")))?;
    Ok(Arc::new(catalog))
}
