//! What a request for a feature view asks for, checked against the table that it names.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::spec::{PrimitiveType, Type};

use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::feature_view::{Feature, FeatureView, Source};
use crate::table::{Column, TableRef};

/// A feature view as it is asked for.
#[derive(Debug, Clone)]
pub struct NewFeatureView {
    pub name: String,
    pub entities: Vec<String>,
    /// The key columns, where they are not called like the entities.
    pub join_keys: Option<Vec<String>>,
    pub features: Vec<(String, Dtype)>,
    pub table: TableRef,
    pub timestamp_field: Option<String>,
    pub created_timestamp_column: Option<String>,
    pub field_mapping: BTreeMap<String, String>,
    pub ttl_seconds: Option<i64>,
    pub online: bool,
    pub tags: BTreeMap<String, String>,
    pub description: String,
    pub owner: String,
}

/// The name that a timestamp column is expected to have where there are several.
const USUAL_TIMESTAMP: &str = "event_timestamp";

/// Refuses names that cannot stand in a reference `view:feature`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    if name.is_empty() || name.len() > 200 || !name.chars().all(plain) {
        return Err(Error::Invalid(format!(
            "{name:?} is not a {what}: use letters, digits, '_', '-' and '.', at most 200 of them"
        )));
    }
    Ok(())
}

impl NewFeatureView {
    /// Checks the request against the columns of its table and gives the view with the types of
    /// its join keys.
    ///
    /// # Errors
    /// Every error about a column lists the columns, every error about a type the types that fit.
    pub fn check(
        self,
        columns: &[Column],
        project: &str,
    ) -> Result<(FeatureView, Vec<Dtype>), Error> {
        self.check_names()?;
        let source = Source {
            name: self.table.to_string(),
            address: self.table.uri(),
            timestamp_column: timestamp_of(columns, &self.table, self.timestamp_field.as_deref())?,
            created_column: self.created(columns)?,
            table: Some(self.table.clone()),
            field_mapping: self.field_mapping.clone(),
        };
        let find = |name: &str, role| find(columns, &self.table, &source.column_of(name), role);
        let join_keys = self
            .join_keys
            .clone()
            .unwrap_or_else(|| self.entities.clone());
        let key_types = join_keys
            .iter()
            .map(|key| key_type(find(key, "an entity's join key")?));
        let key_types = key_types.collect::<Result<Vec<_>, _>>()?;
        let features = self.features.iter().map(|(name, dtype)| {
            let column = find(name, "a feature")?;
            if !dtype.fits(&column.kind) {
                return Err(Error::WrongType {
                    table: Box::new(self.table.clone()),
                    feature: name.clone(),
                    column: column.name.clone(),
                    declared: *dtype,
                    actual: column.kind.to_string(),
                    fitting: Dtype::fitting(&column.kind),
                });
            }
            Ok(Feature {
                name: name.clone(),
                dtype: *dtype,
                column: column.name.clone(),
            })
        });
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let view = FeatureView {
            name: self.name,
            project: project.to_owned(),
            entities: self.entities,
            join_keys,
            join_key_types: key_types.clone(),
            push_source: None,
            features,
            source,
            ttl_us: self
                .ttl_seconds
                .filter(|s| *s > 0)
                .map(|s| s.saturating_mul(1_000_000)),
            online: self.online,
            disabled: false,
            tags: self.tags,
            description: self.description,
            owner: self.owner,
            created_at: 0,
            updated_at: 0,
            materialized: Vec::new(),
        };
        Ok((view, key_types))
    }

    fn check_names(&self) -> Result<(), Error> {
        check_name("feature view name", &self.name)?;
        if self.entities.is_empty() {
            return Err(Error::Invalid(
                "entities is empty: name what the features are about, such as [\"customer_id\"]"
                    .to_owned(),
            ));
        }
        if self.features.is_empty() {
            return Err(Error::Invalid(
                "features is empty: name at least one, such as {\"name\": \"total_orders\", \"dtype\": \"int64\"}"
                    .to_owned(),
            ));
        }
        if let Some(keys) = &self.join_keys
            && keys.len() != self.entities.len()
        {
            return Err(Error::Invalid(format!(
                "there are {} entities but {} join_keys: give one for each, in the same order",
                self.entities.len(),
                keys.len()
            )));
        }
        if self.ttl_seconds.is_some_and(|s| s < 0) {
            return Err(Error::Invalid(
                "the ttl is negative; 0 means no limit".to_owned(),
            ));
        }
        let mut seen = BTreeSet::new();
        let features = self.features.iter().map(|(name, _)| name);
        for name in self.entities.iter().chain(features) {
            check_name("name of an entity or feature", name)?;
            if !seen.insert(name) {
                return Err(Error::Invalid(format!(
                    "{name:?} stands twice among the entities and features"
                )));
            }
        }
        Ok(())
    }

    fn created(&self, columns: &[Column]) -> Result<Option<String>, Error> {
        let Some(asked) = &self.created_timestamp_column else {
            return Ok(None);
        };
        let role = "source.created_timestamp_column";
        let column = find(columns, &self.table, asked, role)?;
        if !column.is_timestamp() {
            return Err(Error::Invalid(format!(
                "{role}: column {asked:?} of {} is {}, not a timestamp",
                self.table, column.kind
            )));
        }
        Ok(Some(asked.clone()))
    }
}

/// The column with the time of an event: the one asked for, else the only one, else the one
/// with the usual name.
pub(crate) fn timestamp_of(
    columns: &[Column],
    table: &TableRef,
    asked: Option<&str>,
) -> Result<String, Error> {
    let candidates: Vec<&str> = columns
        .iter()
        .filter(|c| c.is_timestamp())
        .map(|c| c.name.as_str())
        .collect();
    let refused = |reason: String| Error::NoTimestamp {
        table: Box::new(table.clone()),
        reason,
    };
    let listed = || match candidates.as_slice() {
        [] => "the table has no timestamp column; point-in-time reads need one".to_owned(),
        some => format!("its timestamp columns are: {}", some.join(", ")),
    };
    match asked {
        Some(asked) => {
            let column = find(columns, table, asked, "the time")?;
            if !column.is_timestamp() {
                return Err(refused(format!(
                    "column {asked:?} is {}, not a timestamp; {}",
                    column.kind,
                    listed()
                )));
            }
            Ok(asked.to_owned())
        }
        None => match candidates.as_slice() {
            [only] => Ok((*only).to_owned()),
            some if some.contains(&USUAL_TIMESTAMP) => Ok(USUAL_TIMESTAMP.to_owned()),
            [] => Err(refused(listed())),
            _ => Err(refused(format!(
                "which column is the time of an event? {}",
                listed()
            ))),
        },
    }
}

fn find<'c>(
    columns: &'c [Column],
    table: &TableRef,
    name: &str,
    role: &'static str,
) -> Result<&'c Column, Error> {
    columns
        .iter()
        .find(|c| c.name == name)
        .ok_or_else(|| Error::UnknownColumn {
            table: Box::new(table.clone()),
            column: name.to_owned(),
            role,
            columns: columns
                .iter()
                .map(|c| format!("{} ({})", c.name, c.kind))
                .collect(),
        })
}

/// The type of a join key: what its column is.
fn key_type(column: &Column) -> Result<Dtype, Error> {
    use PrimitiveType as P;
    let scalar = match &column.kind {
        Type::Primitive(P::Int) => Scalar::Int32,
        Type::Primitive(P::Long) => Scalar::Int64,
        Type::Primitive(P::String) => Scalar::String,
        Type::Primitive(P::Boolean) => Scalar::Bool,
        Type::Primitive(P::Binary | P::Fixed(_)) => Scalar::Bytes,
        Type::Primitive(P::Timestamp | P::Timestamptz | P::Date) => Scalar::UnixTimestamp,
        other => {
            return Err(Error::Invalid(format!(
                "column {:?} is {other}, which cannot be a join key; whole numbers and text can",
                column.name
            )));
        }
    };
    Ok(Dtype::Scalar(scalar))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: PrimitiveType) -> Column {
        Column {
            name: name.into(),
            kind: Type::Primitive(kind),
            required: false,
        }
    }

    fn asked() -> NewFeatureView {
        NewFeatureView {
            name: "customer_features".into(),
            entities: vec!["customer_id".into()],
            join_keys: None,
            features: vec![("total_orders".into(), Dtype::Scalar(Scalar::Int64))],
            table: TableRef {
                catalog: "iceberg".into(),
                schema: "gold".into(),
                name: "customer_aggregates".into(),
            },
            timestamp_field: None,
            created_timestamp_column: None,
            field_mapping: BTreeMap::new(),
            ttl_seconds: Some(86400),
            online: true,
            tags: BTreeMap::new(),
            description: String::new(),
            owner: String::new(),
        }
    }

    fn columns() -> Vec<Column> {
        vec![
            column("customer_id", PrimitiveType::Long),
            column("total_orders", PrimitiveType::Long),
            column("updated", PrimitiveType::Timestamptz),
        ]
    }

    #[test]
    fn the_only_timestamp_column_is_found() {
        let (view, keys) = asked().check(&columns(), "default").unwrap();
        assert_eq!(view.source.timestamp_column, "updated");
        assert_eq!(view.ttl_us, Some(86_400_000_000));
        assert_eq!(keys, [Dtype::Scalar(Scalar::Int64)]);
    }

    #[test]
    fn of_several_timestamp_columns_the_usual_name_wins_else_all_are_listed() {
        let mut several = columns();
        several.push(column("loaded", PrimitiveType::Timestamp));
        let error = asked().check(&several, "default").unwrap_err().to_string();
        assert!(error.contains("updated, loaded"), "{error}");
        several.push(column("event_timestamp", PrimitiveType::Timestamptz));
        let (view, _) = asked().check(&several, "default").unwrap();
        assert_eq!(view.source.timestamp_column, "event_timestamp");
    }

    #[test]
    fn an_unknown_column_is_answered_with_those_that_there_are() {
        let mut view = asked();
        view.features
            .push(("churn".into(), Dtype::Scalar(Scalar::Bool)));
        let error = view.check(&columns(), "default").unwrap_err().to_string();
        insta::assert_snapshot!(error, @r#"iceberg.gold.customer_aggregates has no column "churn" (a feature); its columns are: customer_id (long), total_orders (long), updated (timestamptz)"#);
    }

    #[test]
    fn a_wrong_type_is_answered_with_those_that_fit() {
        let mut view = asked();
        view.features[0].1 = Dtype::Scalar(Scalar::String);
        let error = view.check(&columns(), "default").unwrap_err().to_string();
        insta::assert_snapshot!(error, @r#"feature "total_orders" is declared string but column "total_orders" of iceberg.gold.customer_aggregates is long; that column can be read as int32, int64, float64, float32"#);
    }

    #[test]
    fn a_negative_ttl_and_a_name_with_a_colon_are_refused() {
        let mut view = asked();
        view.ttl_seconds = Some(-1);
        assert!(view.check(&columns(), "default").is_err());
        let mut view = asked();
        view.name = "a:b".into();
        assert!(view.check(&columns(), "default").is_err());
    }
}
