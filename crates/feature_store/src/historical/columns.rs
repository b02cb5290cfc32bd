//! Which columns of a table a view needs, found anew for each read: tables change.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::request::ViewUse;
use crate::error::Error;
use crate::table::{Column, TableRef};

/// The columns of the table that a read of a view needs.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) keys: Vec<String>,
    pub(super) key_types: Vec<DataType>,
    pub(crate) timestamp: String,
    pub(crate) created: Option<String>,
    pub(crate) features: Vec<String>,
    pub(super) schema: SchemaRef,
}

impl Columns {
    /// Finds the columns of a view among those that the table has.
    ///
    /// # Errors
    /// When one is not there any more, or its type does not fit any more.
    pub(crate) fn find(used: &ViewUse, name: &TableRef, there: &[Column]) -> Result<Self, Error> {
        let view = &used.view;
        let find = |column: &str, role: &'static str| {
            there
                .iter()
                .find(|c| c.name == column)
                .ok_or_else(|| Error::UnknownColumn {
                    table: Box::new(name.clone()),
                    column: column.to_owned(),
                    role,
                    columns: there.iter().map(|c| c.name.clone()).collect(),
                })
        };
        let keys = view.join_keys.iter().map(|key| view.source.column_of(key));
        let keys: Vec<String> = keys.collect();
        let key_types = keys.iter().map(|key| find(key, "a join key")?.arrow_type());
        for column in [
            Some(&view.source.timestamp_column),
            view.source.created_column.as_ref(),
        ] {
            let Some(column) = column else { continue };
            let found = find(column, "a time")?;
            if !found.is_timestamp() {
                return Err(Error::NoTimestamp {
                    table: Box::new(name.clone()),
                    reason: format!("column {column:?} is {}, not a timestamp", found.kind),
                });
            }
        }
        let features = used
            .features
            .iter()
            .map(|name| Ok(view.feature(name)?.column.clone()));
        let features = features.collect::<Result<Vec<_>, Error>>()?;
        let fields = features.iter().zip(&used.features).map(|(column, feature)| {
            let found = find(column, "a feature")?;
            let dtype = view.feature(feature)?.dtype;
            if !dtype.fits(&found.kind) {
                return Err(Error::Invalid(format!(
                    "feature {feature:?} of view '{}' is declared {dtype} but column {column:?} of {name} is {} now",
                    view.name, found.kind
                )));
            }
            Ok(Field::new(feature, found.arrow_type()?, true))
        });
        Ok(Self {
            key_types: key_types.collect::<Result<_, _>>()?,
            schema: Arc::new(Schema::new(fields.collect::<Result<Vec<_>, Error>>()?)),
            keys,
            timestamp: view.source.timestamp_column.clone(),
            created: view.source.created_column.clone(),
            features,
        })
    }

    /// Each column once.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let all = self
            .keys
            .iter()
            .chain([&self.timestamp])
            .chain(&self.created)
            .chain(&self.features);
        all.filter(|name| seen.insert(name.as_str()))
            .cloned()
            .collect()
    }
}
