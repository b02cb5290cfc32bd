//! The Iceberg catalogs: opening them and their tables.

mod clients;
mod failure;
mod files;
mod glue;
mod glue_table;
mod list;
mod replace;
mod rest;
mod set_aside;
mod settings;
mod sql;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws::AwsVariables;
use iceberg::table::Table;
use iceberg::{Catalog, ErrorKind, NamespaceIdent, TableIdent};
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::error::Error;
use crate::table::{LOCAL_CATALOG, TableRef};
use files::{Files, Place};

pub(crate) use failure::{code_of, explain, help};
pub use settings::{CatalogConfig, CatalogKind};

/// The folder of the local catalog in the data directory.
const WAREHOUSE: &str = "warehouse";

/// All configured catalogs; each is opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub struct Catalogs {
    all: Arc<BTreeMap<String, Entry>>,
    data_dir: Arc<PathBuf>,
    variables: AwsVariables,
}

struct Entry {
    config: CatalogConfig,
    opened: OnceCell<Opened>,
}

/// An open catalog.
pub(crate) struct Opened {
    pub(crate) catalog: Arc<dyn Catalog>,
    /// The same one, where its token can be exchanged anew.
    token: Option<rest::Token>,
}

impl Catalogs {
    /// The catalogs of a configuration, with the local one.
    pub fn new(config: &Config, data_dir: &Path) -> Self {
        let mut configs = config.catalogs.clone();
        configs
            .entry(LOCAL_CATALOG.to_owned())
            .or_insert_with(|| local(data_dir));
        let all = configs.into_iter().map(|(name, config)| {
            let opened = OnceCell::new();
            (name, Entry { config, opened })
        });
        Self {
            all: Arc::new(all.collect()),
            data_dir: Arc::new(data_dir.to_owned()),
            variables: config.aws.clone(),
        }
    }

    /// The names of all catalogs.
    pub fn names(&self) -> Vec<String> {
        self.all.keys().cloned().collect()
    }

    /// A folder for files on their way into a table.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.data_dir.join(WAREHOUSE).join(".incoming")
    }

    /// The catalog of that name, opened.
    pub(crate) async fn catalog(&self, name: &str) -> Result<Arc<dyn Catalog>, Error> {
        Ok(self.opened(name).await?.catalog.clone())
    }

    /// The same, to be asked again where its token may have ended.
    pub(crate) async fn opened(&self, name: &str) -> Result<&Opened, Error> {
        let entry = self.all.get(name).ok_or_else(|| Error::UnknownCatalog {
            name: name.to_owned(),
            known: self.names(),
        })?;
        let open = || open(name, &entry.config, &self.variables);
        entry.opened.get_or_try_init(open).await
    }

    /// Opens a table as it is now.
    ///
    /// # Errors
    /// [`Error::UnknownCatalog`] and [`Error::UnknownTable`] list what is there.
    pub async fn table(&self, table: &TableRef) -> Result<Table, Error> {
        let opened = self.opened(&table.catalog).await?;
        let catalog = &opened.catalog;
        let ident = TableIdent::new(namespace(table)?, table.name.clone());
        match opened.twice(|| catalog.load_table(&ident)).await {
            Ok(loaded) => Ok(loaded),
            Err(error) if is_missing(&error) || !exists(&**catalog, &ident, &error).await => {
                Err(Error::UnknownTable {
                    table: Box::new(table.clone()),
                    tables: tables_in(&**catalog, ident.namespace()).await,
                })
            }
            Err(error) => Err(Error::iceberg(format!("table {table} cannot be opened"))(
                error,
            )),
        }
    }

    /// All tables of a catalog.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn tables(&self, name: &str) -> Result<Vec<TableRef>, Error> {
        let opened = self.opened(name).await?;
        let listed = opened.twice(|| list::tables(&*opened.catalog)).await;
        let listed =
            listed.map_err(Error::iceberg(format!("catalog {name:?} cannot be listed")))?;
        let shown = listed.into_iter();
        let shown = shown.filter(|ident| set_aside::kept_until(ident.name()).is_none());
        let tables = shown.map(|ident| TableRef {
            catalog: name.to_owned(),
            schema: ident.namespace().join_levels(),
            name: ident.name().to_owned(),
        });
        let mut tables: Vec<TableRef> = tables.collect();
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(tables)
    }
}

impl Opened {
    /// Asks, and asks again with a new token when the catalog does not take the one that it has:
    /// the library does not look at how long one lasts.
    pub(crate) async fn twice<T, F>(&self, ask: impl Fn() -> F) -> iceberg::Result<T>
    where
        F: Future<Output = iceberg::Result<T>>,
    {
        match (ask().await, &self.token) {
            (Err(error), Some(token)) if failure::is_unauthorized(&error) => {
                token.renew().await?;
                ask().await
            }
            (answered, _) => answered,
        }
    }
}

/// The levels of a namespace in one word.
trait JoinLevels {
    fn join_levels(&self) -> String;
}

impl JoinLevels for NamespaceIdent {
    fn join_levels(&self) -> String {
        self.as_ref().join(".")
    }
}

pub(crate) fn namespace(table: &TableRef) -> Result<NamespaceIdent, Error> {
    NamespaceIdent::from_strs(table.schema.split('.'))
        .map_err(|_| Error::Invalid(format!("{:?} is not a schema", table.schema)))
}

fn is_missing(error: &iceberg::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound
    )
}

/// Whether the table is there although it cannot be loaded: SQL catalogs have no error of their
/// own for one that is not.
async fn exists(catalog: &dyn Catalog, ident: &TableIdent, failed: &iceberg::Error) -> bool {
    // A catalog that does not answer shows the error of the load itself.
    code_of(failed) != web::Code::BadGateway || catalog.table_exists(ident).await.unwrap_or(true)
}

async fn tables_in(catalog: &dyn Catalog, namespace: &NamespaceIdent) -> Vec<String> {
    // A schema that is not there has no tables.
    let idents = catalog.list_tables(namespace).await.unwrap_or_default();
    let mut names: Vec<String> = idents.iter().map(|ident| ident.name().to_owned()).collect();
    names.sort();
    names
}

fn local(data_dir: &Path) -> CatalogConfig {
    let warehouse = data_dir.join(WAREHOUSE);
    CatalogConfig {
        uri: format!("sqlite://{}", warehouse.join("catalog.db").display()),
        warehouse: format!("file://{}", warehouse.display()),
        ..CatalogConfig::default()
    }
}

async fn open(
    name: &str,
    config: &CatalogConfig,
    variables: &AwsVariables,
) -> Result<Opened, Error> {
    let kind = config.kind(name)?;
    let place = Place {
        folders: kind == CatalogKind::Sql && !config.warehouse.starts_with("s3://"),
        s3: config.s3(name),
        variables: variables.clone(),
    };
    let files = Files::new(place);
    let catalog: Arc<dyn Catalog> = match kind {
        CatalogKind::Sql => sql::open(name, config, files).await?,
        CatalogKind::Glue => Arc::new(glue::Glue::open(name, config, files)?),
        CatalogKind::Rest => {
            let (catalog, token) = rest::open(name, config, files).await?;
            return Ok(Opened { catalog, token });
        }
    };
    let token = None;
    Ok(Opened { catalog, token })
}

/// A client of catalogs that speak HTTP, which does not wait for ever.
fn http_client() -> Result<reqwest::Client, Error> {
    let built = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .build();
    built.map_err(|error| Error::Invalid(format!("no HTTP client can be made: {error}")))
}
