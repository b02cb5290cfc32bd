//! Tables that come whole: made beside, and put in their place in one step.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_util::stream::BoxStream;
use iceberg::table::Table;
use iceberg::{Catalog, TableIdent};

use super::{Catalogs, JoinLevels as _, namespace};
use crate::error::Error;
use crate::store::catalogs::{Place, Uri, exchange};
use crate::table::TableRef;

impl Catalogs {
    /// Refuses a table that is there, unless it may be overwritten.
    ///
    /// # Errors
    /// [`Error::TableExists`], and when the catalog does not answer.
    pub(crate) async fn check_new(&self, table: &TableRef, overwrite: bool) -> Result<(), Error> {
        table.check()?;
        match self.table(table).await {
            Ok(_) if !overwrite => Err(Error::TableExists(Box::new(table.clone()))),
            Ok(_) | Err(Error::UnknownTable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a table of these rows: it is there with all of them, or not at all. With `overwrite`
    /// it takes the place of one that is there: a read that begins sees either the one or the other,
    /// and one that is under way may break off, since the old files go at once.
    ///
    /// # Errors
    /// When there are no rows, one fails, or the table is there and must not be overwritten.
    pub(crate) async fn put(
        &self,
        into: &TableRef,
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch, Error>>,
        overwrite: bool,
    ) -> Result<(), Error> {
        let catalog = self.catalog(&into.catalog).await?;
        let made = ulid::Ulid::new().to_string().to_lowercase();
        let beside = TableRef {
            name: format!("{}__{made}", into.name),
            ..into.clone()
        };
        let ident = TableIdent::new(namespace(&beside)?, beside.name.clone());
        let done = match self.append_stream(&beside, schema, batches).await {
            Ok(_) => self.settle(&*catalog, &beside, into, overwrite).await,
            Err(error) => Err(error),
        };
        // What is there now is what is not wanted: the rows that failed, or the table of before.
        if catalog.table_exists(&ident).await.unwrap_or(true)
            && let Err(error) = catalog.purge_table(&ident).await
        {
            tracing::warn!(table = %beside, error = %error, "a table that is not needed any more cannot be removed");
        }
        done
    }

    /// Puts the table that was made beside in its place.
    async fn settle(
        &self,
        catalog: &dyn Catalog,
        beside: &TableRef,
        into: &TableRef,
        overwrite: bool,
    ) -> Result<(), Error> {
        match self.table(into).await {
            Ok(_) if !overwrite => Err(Error::TableExists(Box::new(into.clone()))),
            Ok(there) => self.exchange(&there, beside, into).await,
            Err(Error::UnknownTable { .. }) => {
                let ident = |table: &TableRef| {
                    Ok::<_, Error>(TableIdent::new(namespace(table)?, table.name.clone()))
                };
                let renamed = catalog.rename_table(&ident(beside)?, &ident(into)?).await;
                renamed.map_err(Error::iceberg(format!("table {into} cannot be made")))
            }
            Err(error) => Err(error),
        }
    }

    async fn exchange(
        &self,
        there: &Table,
        beside: &TableRef,
        into: &TableRef,
    ) -> Result<(), Error> {
        let made = self.table(beside).await?;
        let config = self.all.get(&into.catalog).map(|entry| &entry.config);
        let uri = config.and_then(|config| Uri::parse(&into.catalog, &config.uri).ok());
        let (Some(old), Some(new), Some(config), Some(uri)) = (
            there.metadata_location(),
            made.metadata_location(),
            config,
            uri,
        ) else {
            return Err(no_exchange(into));
        };
        let namespace = namespace(into)?.join_levels();
        let place = |name, location| Place {
            catalog: config.name.as_deref().unwrap_or(&into.catalog),
            namespace: &namespace,
            name,
            location,
        };
        let (from, to) = (place(&into.name, old), place(&beside.name, new));
        if exchange(&into.catalog, &uri, &from, &to).await? {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "table {into} was changed while its new rows were written"
        )))
    }
}

fn no_exchange(table: &TableRef) -> Error {
    Error::Unsupported(format!(
        "a table of catalog {:?} cannot be replaced in one step: give another path, or drop {table} first",
        table.catalog
    ))
}
