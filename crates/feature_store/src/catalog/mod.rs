//! The Iceberg catalogs: opening them and their tables.

mod failure;
mod files;
mod sql;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws::AwsVariables;
use iceberg::table::Table;
use iceberg::{Catalog, ErrorKind, NamespaceIdent, TableIdent};
use tokio::sync::OnceCell;

use crate::config::{CatalogConfig, Config};
use crate::error::Error;
use crate::table::{LOCAL_CATALOG, TableRef};
use files::{Files, Place};

pub(crate) use failure::code_of;

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
    opened: OnceCell<Arc<dyn Catalog>>,
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
        let entry = self.all.get(name).ok_or_else(|| Error::UnknownCatalog {
            name: name.to_owned(),
            known: self.names(),
        })?;
        let open = || open(name, &entry.config, &self.variables);
        let opened = entry.opened.get_or_try_init(open);
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
                ) || !exists(&*catalog, &ident).await =>
            {
                Err(Error::UnknownTable {
                    table: Box::new(table.clone()),
                    tables: tables_in(&*catalog, ident.namespace()).await,
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

async fn exists(catalog: &dyn Catalog, ident: &TableIdent) -> bool {
    // A catalog that does not answer shows the error of the load itself.
    catalog.table_exists(ident).await.unwrap_or(true)
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
) -> Result<Arc<dyn Catalog>, Error> {
    let files = Files {
        place: Place {
            folders: !config.warehouse.starts_with("s3://"),
            s3: config.s3(name),
            variables: variables.clone(),
        },
    };
    sql::open(name, config, files).await
}
