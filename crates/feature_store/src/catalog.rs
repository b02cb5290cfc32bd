//! The Iceberg catalogs: opening them and their tables.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iceberg::io::LocalFsStorageFactory;
use iceberg::table::Table;
use iceberg::{Catalog, CatalogBuilder as _, ErrorKind, NamespaceIdent, TableIdent};
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalog, SqlCatalogBuilder};
use tokio::sync::OnceCell;

use crate::config::{CatalogConfig, Config};
use crate::error::Error;
use crate::store;
use crate::table::{LOCAL_CATALOG, TableRef};

/// The folder of the local catalog in the data directory.
const WAREHOUSE: &str = "warehouse";

/// All configured catalogs; each is opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub struct Catalogs {
    all: Arc<BTreeMap<String, Entry>>,
    data_dir: Arc<PathBuf>,
}

struct Entry {
    config: CatalogConfig,
    opened: OnceCell<Arc<SqlCatalog>>,
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
    pub(crate) async fn catalog(&self, name: &str) -> Result<Arc<SqlCatalog>, Error> {
        let entry = self.all.get(name).ok_or_else(|| Error::UnknownCatalog {
            name: name.to_owned(),
            known: self.names(),
        })?;
        let opened = entry.opened.get_or_try_init(|| open(name, &entry.config));
        opened.await.cloned()
    }

    /// Opens a table as it is now.
    ///
    /// # Errors
    /// [`Error::UnknownCatalog`] and [`Error::UnknownTable`] list what is there.
    pub async fn table(&self, table: &TableRef) -> Result<Table, Error> {
        let catalog = self.catalog(&table.catalog).await?;
        let namespace = namespace(table)?;
        let ident = TableIdent::new(namespace, table.name.clone());
        match catalog.load_table(&ident).await {
            Ok(loaded) => Ok(loaded),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound
                ) || !exists(&catalog, &ident).await =>
            {
                Err(Error::UnknownTable {
                    table: Box::new(table.clone()),
                    tables: tables_in(&catalog, ident.namespace()).await,
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
        let catalog = self.catalog(name).await?;
        let failed = || format!("catalog {name:?} cannot be listed");
        let namespaces = catalog
            .list_namespaces(None)
            .await
            .map_err(Error::iceberg(failed()))?;
        let mut tables = Vec::new();
        for namespace in namespaces {
            let idents = catalog
                .list_tables(&namespace)
                .await
                .map_err(Error::iceberg(failed()))?;
            tables.extend(idents.into_iter().map(|ident| TableRef {
                catalog: name.to_owned(),
                schema: namespace.join_levels(),
                name: ident.name().to_owned(),
            }));
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(tables)
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

async fn exists(catalog: &SqlCatalog, ident: &TableIdent) -> bool {
    // A catalog that does not answer shows the error of the load itself.
    catalog.table_exists(ident).await.unwrap_or(true)
}

async fn tables_in(catalog: &SqlCatalog, namespace: &NamespaceIdent) -> Vec<String> {
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
        name: None,
    }
}

async fn open(name: &str, config: &CatalogConfig) -> Result<Arc<SqlCatalog>, Error> {
    let uri = store::catalogs::Uri::parse(name, &config.uri)?;
    store::catalogs::prepare(name, &uri).await?;
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
        .with_storage_factory(Arc::new(LocalFsStorageFactory))
        .load(config.name.as_deref().unwrap_or(name), props)
        .await
        .map_err(Error::iceberg(format!("catalog {name:?} cannot be opened")))?;
    Ok(Arc::new(catalog))
}
