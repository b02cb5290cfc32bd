//! Tables that come whole: made beside, and put in their place in one step. What was there before is
//! set aside for a while, for those who read it.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_util::stream::BoxStream;
use iceberg::table::Table;
use iceberg::{Catalog, TableIdent};

use super::set_aside::{MAKING, SET_ASIDE};
use super::{CatalogConfig, CatalogKind, Catalogs, JoinLevels as _, namespace};
use crate::error::Error;
use crate::store::catalogs::{Place, Uri, exchange};
use crate::table::TableRef;

impl Catalogs {
    /// Refuses a table that is there, unless it may be overwritten, and one that the catalog cannot
    /// put in its place.
    ///
    /// # Errors
    /// [`Error::TableExists`], [`Error::Unsupported`], and when the catalog does not answer.
    pub(crate) async fn check_new(&self, table: &TableRef, overwrite: bool) -> Result<(), Error> {
        table.check()?;
        match self.table(table).await {
            Ok(_) if !overwrite => Err(Error::TableExists(Box::new(table.clone()))),
            Ok(_) => self.database_of(table).map(|_| ()),
            Err(Error::UnknownTable { .. }) => self.check_renames(table),
            Err(error) => Err(error),
        }
    }

    /// The settings of a SQL catalog and its database: only there two tables change places.
    fn database_of(&self, table: &TableRef) -> Result<(&CatalogConfig, Uri), Error> {
        let config = self.all.get(&table.catalog).map(|entry| &entry.config);
        let is_sql =
            |config: &&CatalogConfig| matches!(config.kind(&table.catalog), Ok(CatalogKind::Sql));
        let config = config.filter(is_sql).ok_or_else(|| {
            Error::Unsupported(format!(
                "a table of catalog {:?} cannot be replaced in one step: give another path, or drop {table} first",
                table.catalog
            ))
        })?;
        Ok((config, Uri::parse(&table.catalog, &config.uri)?))
    }

    /// Refuses a catalog in which a table that is made beside cannot get its name.
    fn check_renames(&self, table: &TableRef) -> Result<(), Error> {
        let config = self.all.get(&table.catalog).map(|entry| &entry.config);
        match config.map(|config| config.kind(&table.catalog)) {
            Some(Ok(CatalogKind::Glue)) => Err(Error::Unsupported(format!(
                "a table of catalog {:?}, which is AWS Glue, cannot be made with all its rows in one step: keep data sets in another catalog",
                table.catalog
            ))),
            _ => Ok(()),
        }
    }

    /// Makes a table of these rows: it is there with all of them, or not at all. With `overwrite`
    /// it takes the place of one that is there: a read that begins sees either the one or the other,
    /// and one that is under way has an hour to come to its end.
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
        let beside = TableRef {
            name: named(into, MAKING),
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
            Ok(there) => {
                self.exchange(&there, beside, into).await?;
                set_aside(catalog, beside, into).await;
                Ok(())
            }
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
        let (config, uri) = self.database_of(into)?;
        let places = there.metadata_location().zip(made.metadata_location());
        let (old, new) = places
            .ok_or_else(|| Error::Invalid(format!("table {into} has no place in its catalog")))?;
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

/// Keeps what was replaced, which `beside` names since, under a name that says since when.
async fn set_aside(catalog: &dyn Catalog, beside: &TableRef, into: &TableRef) {
    let Ok(schema) = namespace(beside) else {
        return;
    };
    let from = TableIdent::new(schema.clone(), beside.name.clone());
    let to = TableIdent::new(schema, named(into, SET_ASIDE));
    if let Err(error) = catalog.rename_table(&from, &to).await {
        tracing::warn!(table = %into, %error, "what was replaced cannot be kept for those who read it");
    }
}

/// A name beside that of a table, which says since when.
fn named(table: &TableRef, suffix: &str) -> String {
    let now = ulid::Ulid::new().to_string().to_lowercase();
    format!("{}{suffix}{now}", table.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use futures_util::{StreamExt as _, TryStreamExt as _, stream};
    use web::{Code, Timestamp};

    use super::*;
    use crate::Config;
    use crate::catalog::set_aside::{KEPT_MS, MAKING_MS};

    async fn put(catalogs: &Catalogs, into: &TableRef, value: i64) {
        let rows = [("value", Arc::new(Int64Array::from(vec![value])) as _)];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        let batches = stream::iter([Ok(rows.clone())]).boxed();
        catalogs.check_new(into, true).await.unwrap();
        let put = catalogs.put(into, rows.schema(), batches, true);
        put.await.unwrap();
    }

    async fn values(table: &Table) -> iceberg::Result<Vec<i64>> {
        let rows = table.scan().select_all().build()?.to_arrow().await?;
        let rows: Vec<RecordBatch> = rows.try_collect().await?;
        let columns = rows.iter().map(|rows| rows.column(0));
        let columns = columns.flat_map(|column| column.as_primitive::<Int64Type>().values().iter());
        Ok(columns.copied().collect())
    }

    #[tokio::test]
    async fn who_reads_a_table_that_is_replaced_reads_it_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::new(&Config::default(), dir.path());
        let into = TableRef::parse_uri("iceberg://gold/saved").unwrap();
        put(&catalogs, &into, 1).await;
        let before = catalogs.table(&into).await.unwrap();
        put(&catalogs, &into, 2).await;
        assert_eq!(values(&before).await.unwrap(), [1]);
        let after = catalogs.table(&into).await.unwrap();
        assert_eq!(values(&after).await.unwrap(), [2]);
        // Nobody is shown what is only kept for a while.
        let listed = catalogs.tables("iceberg").await.unwrap();
        assert_eq!(listed, [into]);
        let now = Timestamp::now().0;
        catalogs.remove_set_aside(now).await;
        assert_eq!(values(&before).await.unwrap(), [1]);
        catalogs.remove_set_aside(now + 2 * KEPT_MS).await;
        assert!(values(&before).await.is_err());
        assert_eq!(values(&after).await.unwrap(), [2]);
    }

    #[tokio::test]
    async fn what_a_killed_server_left_half_made_is_removed_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let catalogs = Catalogs::new(&Config::default(), dir.path());
        let into = TableRef::parse_uri("iceberg://gold/saved").unwrap();
        put(&catalogs, &into, 1).await;
        // As it is between the exchange and the setting aside: what was there before, by the name of
        // what was made.
        let beside = TableRef {
            name: named(&into, MAKING),
            ..into.clone()
        };
        let rows = [("value", Arc::new(Int64Array::from(vec![2])) as _)];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        catalogs.append(&beside, rows).await.unwrap();
        let there = catalogs.table(&into).await.unwrap();
        catalogs.exchange(&there, &beside, &into).await.unwrap();
        assert_eq!(
            catalogs.tables("iceberg").await.unwrap(),
            std::slice::from_ref(&into)
        );
        let now = Timestamp::now().0;
        // Who makes a table has a day to come to its end.
        catalogs.remove_set_aside(now + 2 * KEPT_MS).await;
        assert!(catalogs.table(&beside).await.is_ok());
        catalogs.remove_set_aside(now + 2 * MAKING_MS).await;
        let gone = catalogs.table(&beside).await;
        assert!(matches!(gone, Err(Error::UnknownTable { .. })), "{gone:?}");
        let after = catalogs.table(&into).await.unwrap();
        assert_eq!(values(&after).await.unwrap(), [2]);
    }

    #[test]
    fn what_a_catalog_cannot_do_is_refused_before_anything_is_read() {
        let of = |kind| CatalogConfig {
            kind: Some(kind),
            uri: "http://127.0.0.1:1".to_owned(),
            ..CatalogConfig::default()
        };
        let config = Config {
            catalogs: [
                ("rest".to_owned(), of(CatalogKind::Rest)),
                ("glue".to_owned(), of(CatalogKind::Glue)),
            ]
            .into(),
            ..Config::default()
        };
        let catalogs = Catalogs::new(&config, std::path::Path::new("nowhere"));
        let table = |catalog: &str| {
            TableRef::parse_uri(&format!("iceberg://{catalog}/gold/saved")).unwrap()
        };
        for catalog in ["rest", "glue"] {
            let refused = catalogs.database_of(&table(catalog)).err().unwrap();
            assert_eq!(refused.code(), Code::NotImplemented);
            assert!(refused.to_string().contains("another path"), "{refused}");
        }
        assert!(catalogs.database_of(&table("iceberg")).is_ok());
        let refused = catalogs.check_renames(&table("glue")).unwrap_err();
        assert_eq!(refused.code(), Code::NotImplemented);
        assert!(catalogs.check_renames(&table("rest")).is_ok());
    }
}
