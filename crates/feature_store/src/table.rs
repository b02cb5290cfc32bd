//! An Iceberg table: its name, its columns, and which of them can be a feature or a time.

use std::fmt;

use arrow_schema::DataType;
use iceberg::spec::{PrimitiveType, Type};
use iceberg::table::Table;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Error;

/// Where a table is: catalog, schema (an Iceberg namespace, dots separate levels), name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct TableRef {
    pub catalog: String,
    pub schema: String,
    pub name: String,
}

/// The catalog that is always there.
pub(crate) const LOCAL_CATALOG: &str = "iceberg";

/// The scheme of the addresses under which definitions keep their tables.
const SCHEME: &str = "iceberg://";

impl TableRef {
    /// The address that stands in a Feast data source: `iceberg://CATALOG/SCHEMA/TABLE`.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.catalog, self.schema, self.name)
    }

    /// Reads an address; `iceberg://SCHEMA/TABLE` is in the local catalog.
    pub fn parse_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/').rev();
        let (name, schema) = (parts.next()?, parts.next()?);
        let catalog = parts.next().unwrap_or(LOCAL_CATALOG);
        let whole =
            parts.next().is_none() && [name, schema, catalog].iter().all(|part| !part.is_empty());
        whole.then(|| Self {
            catalog: catalog.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Refuses names that could leave the warehouse or that no SQL engine would take.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the part.
    pub fn check(&self) -> Result<(), Error> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
        };
        for (what, text) in [("table name", &self.name), ("catalog", &self.catalog)] {
            if !plain(text) {
                return Err(Error::Invalid(format!(
                    "{text:?} is not a {what}: use letters, digits, '_' and '-'"
                )));
            }
        }
        if !self.schema.split('.').all(plain) {
            return Err(Error::Invalid(format!(
                "{:?} is not a schema: use letters, digits, '_' and '-', and dots between levels",
                self.schema
            )));
        }
        Ok(())
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.name)
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    pub required: bool,
}

/// The columns of a table as they are now.
pub fn columns(table: &Table) -> Vec<Column> {
    let schema = table.metadata().current_schema();
    let fields = schema.as_struct().fields().iter();
    fields
        .map(|field| Column {
            name: field.name.clone(),
            kind: (*field.field_type).clone(),
            required: field.required,
        })
        .collect()
}

impl Column {
    /// Whether the column can be the time of an event.
    pub fn is_timestamp(&self) -> bool {
        matches!(
            self.kind,
            Type::Primitive(PrimitiveType::Timestamp | PrimitiveType::Timestamptz)
        )
    }

    /// The Arrow type in which Iceberg gives the column.
    ///
    /// # Errors
    /// When the type has none.
    pub fn arrow_type(&self) -> Result<DataType, Error> {
        iceberg::arrow::type_to_arrow_type(&self.kind).map_err(Error::iceberg(format!(
            "column {:?} cannot be read",
            self.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::TableRef;

    #[test]
    fn an_address_names_a_table() {
        let table = TableRef::parse_uri("iceberg://lake/gold.eu/orders").unwrap();
        assert_eq!(table.to_string(), "lake.gold.eu.orders");
        assert_eq!(TableRef::parse_uri(&table.uri()), Some(table));
        let local = TableRef::parse_uri("iceberg://gold/orders").unwrap();
        assert_eq!(local.catalog, "iceberg");
        for wrong in [
            "iceberg://orders",
            "s3://a/b/c",
            "iceberg://a/b/c/d",
            "iceberg://a//c",
        ] {
            assert_eq!(TableRef::parse_uri(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_cannot_leave_the_warehouse() {
        for name in ["../x", "a/b", "", "a.b"] {
            let table = TableRef {
                catalog: "iceberg".into(),
                schema: "gold".into(),
                name: name.into(),
            };
            assert!(table.check().is_err(), "{name}");
        }
    }
}
