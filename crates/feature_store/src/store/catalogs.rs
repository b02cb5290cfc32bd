//! The database behind a SQL catalog, before the catalog's own library takes it over.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};

use crate::error::Error;

/// A database that does not answer within this is one that is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The address of a catalog's database, as the SQL driver wants it.
pub(crate) struct Uri(String);

impl Uri {
    /// Reads the spellings of pyiceberg (SQLAlchemy): `sqlite:///PATH`, `postgresql+psycopg2://…`.
    pub(crate) fn parse(catalog: &str, text: &str) -> Result<Self, Error> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(unknown(catalog));
        };
        match scheme.split('+').next().unwrap_or_default() {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                Ok(Self(format!("sqlite://{path}")))
            }
            "postgresql" | "postgres" => Ok(Self(format!("postgres:{rest}"))),
            _ => Err(unknown(catalog)),
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn unknown(catalog: &str) -> Error {
    Error::Invalid(format!(
        "the uri of catalog {catalog:?} is neither sqlite:///PATH nor postgresql://USER:PASSWORD@HOST/NAME"
    ))
}

/// Makes an absent SQLite file, and gives the tables of pyiceberg before 0.12 the column that
/// later ones have; both old and new clients work with it.
pub(crate) async fn prepare(catalog: &str, uri: &Uri) -> Result<(), Error> {
    let failed = |source| Error::CatalogDatabase {
        catalog: catalog.to_owned(),
        source,
    };
    let prepared = async {
        if uri.is_sqlite() {
            prepare_sqlite(uri).await
        } else {
            prepare_postgres(uri).await
        }
    };
    let prepared = tokio::time::timeout(PATIENCE, prepared).await;
    prepared
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(failed)
}

async fn prepare_postgres(uri: &Uri) -> Result<(), sqlx::Error> {
    let mut conn = sqlx::PgConnection::connect(uri.as_str()).await?;
    conn.execute(
        "ALTER TABLE IF EXISTS iceberg_tables ADD COLUMN IF NOT EXISTS iceberg_type VARCHAR(5)",
    )
    .await?;
    conn.close().await
}

async fn prepare_sqlite(uri: &Uri) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::from_str(uri.as_str())?.create_if_missing(true);
    if let Some(dir) = options.get_filename().parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut conn = options.connect().await?;
    let columns = conn
        .fetch_all("SELECT name FROM pragma_table_info('iceberg_tables')")
        .await?;
    let has = |name: &str| columns.iter().any(|row| row.get::<String, _>(0) == name);
    if !columns.is_empty() && !has("iceberg_type") {
        conn.execute("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)")
            .await?;
    }
    conn.close().await
}

/// A table in the catalog's database, and where its metadata is.
pub(crate) struct Place<'p> {
    pub(crate) catalog: &'p str,
    pub(crate) namespace: &'p str,
    pub(crate) name: &'p str,
    pub(crate) location: &'p str,
}

/// Has two tables change their contents; false when one of them is not as it was.
pub(crate) async fn exchange(
    catalog: &str,
    uri: &Uri,
    one: &Place<'_>,
    other: &Place<'_>,
) -> Result<bool, Error> {
    let failed = |source| Error::CatalogDatabase {
        catalog: catalog.to_owned(),
        source,
    };
    let exchanged = async {
        sqlx::any::install_default_drivers();
        let mut conn = sqlx::AnyConnection::connect(uri.as_str()).await?;
        let mut tx = conn.begin().await?;
        for (place, location) in [(one, other.location), (other, one.location)] {
            let done = sqlx::query(
                "UPDATE iceberg_tables
                 SET metadata_location = $1, previous_metadata_location = NULL
                 WHERE catalog_name = $2 AND table_namespace = $3 AND table_name = $4
                   AND metadata_location = $5",
            )
            .bind(location)
            .bind(place.catalog)
            .bind(place.namespace)
            .bind(place.name)
            .bind(place.location)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() != 1 {
                return Ok(false);
            }
        }
        tx.commit().await?;
        conn.close().await?;
        Ok::<bool, sqlx::Error>(true)
    };
    exchanged.await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::Uri;

    #[test]
    fn the_spellings_of_pyiceberg_are_understood() {
        let parse = |text| {
            Uri::parse("c", text)
                .map(|uri| uri.as_str().to_owned())
                .ok()
        };
        assert_eq!(
            parse("sqlite:////data/c.db").as_deref(),
            Some("sqlite:////data/c.db")
        );
        assert_eq!(
            parse("sqlite:/data/c.db").as_deref(),
            Some("sqlite:///data/c.db")
        );
        assert_eq!(
            parse("postgresql+psycopg2://u:p@h/db").as_deref(),
            Some("postgres://u:p@h/db")
        );
        assert_eq!(parse("mysql://h/db"), None);
    }
}
