//! Writing values that did not come out of a table: what the SDK pushes, and what it materialized
//! itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::keeper::Batch;
use super::row::{Row, Stamp};
use super::{value, view};
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::feature_view::FeatureView;
use crate::json;

/// The names that the SDK gives the times of rows.
const EVENT_TIMESTAMP: &str = "event_timestamp";
const CREATED: &str = "created";

/// Rows by column.
pub type Columns = BTreeMap<String, Vec<Value>>;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub rows: usize,
    /// Rows that were newer than what was there.
    pub newer: usize,
}

/// Where pushed rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    pub online: bool,
    pub offline: bool,
}

impl Destination {
    /// Reads Feast's names.
    ///
    /// # Errors
    /// [`Error::Invalid`] lists them.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let (online, offline) = match name {
            "online" => (true, false),
            "offline" => (false, true),
            "online_and_offline" => (true, true),
            _ => {
                return Err(Error::Invalid(format!(
                    "to is {name:?}; it is one of online, offline, online_and_offline"
                )));
            }
        };
        Ok(Self { online, offline })
    }
}

impl FeatureStore {
    /// Writes rows into the online store of a view.
    ///
    /// # Errors
    /// When a column is missing or a value is not of its feature's type; nothing is written then.
    pub async fn write_online(
        &self,
        project: &str,
        view: &str,
        columns: &Columns,
    ) -> Result<Written, Error> {
        let view = self.online_view(project, view).await?;
        self.write_rows(&view, columns).await
    }

    /// Writes rows into every view that a push source feeds; a name that is no push source is
    /// taken as a view's.
    ///
    /// # Errors
    /// As for [`Self::write_online`], and when no view has that source.
    pub async fn push(
        &self,
        project: &str,
        source: &str,
        columns: &Columns,
        to: Destination,
    ) -> Result<Vec<(String, Written)>, Error> {
        let all = self.feature_views(project).await?;
        let fed: Vec<&FeatureView> = all
            .iter()
            .filter(|view| view.push_source.as_deref() == Some(source))
            .collect();
        let fed = if fed.is_empty() {
            all.iter().filter(|view| view.name == source).collect()
        } else {
            fed
        };
        if fed.is_empty() {
            let sources = all.into_iter().filter_map(|view| view.push_source);
            return Err(Error::NotFound {
                kind: Kind::DataSource,
                name: source.to_owned(),
                project: project.to_owned(),
                known: sources.collect(),
            });
        }
        // All of it is understood before any of it is written, tables before what is read online.
        let mut online = Vec::new();
        for view in fed.iter().filter(|_| to.online) {
            online.push(self.batch(view, columns).await?);
        }
        if to.offline {
            let rows = columns.iter();
            let rows = rows.map(|(name, values)| (name.clone(), Value::Array(values.clone())));
            let rows = json::to_batch(Value::Object(rows.collect()))?;
            for view in &fed {
                self.catalogs.append(view.table()?, rows.clone()).await?;
            }
        }
        let mut online = online.into_iter();
        let mut written = Vec::new();
        for view in fed {
            let done = match online.next() {
                Some(batch) => self.write_batch(batch).await?,
                None => Written {
                    rows: columns.values().next().map_or(0, Vec::len),
                    newer: 0,
                },
            };
            written.push((view.name.clone(), done));
        }
        Ok(written)
    }

    async fn write_rows(&self, view: &FeatureView, columns: &Columns) -> Result<Written, Error> {
        self.write_batch(self.batch(view, columns).await?).await
    }

    /// The rows as the store keeps them.
    async fn batch(&self, view: &FeatureView, columns: &Columns) -> Result<Batch, Error> {
        let (kept, about) = self.rows_to_write(view).await?;
        let generation = about.generation;
        let layout = self.online.layout(&kept, view, generation).await?;
        Ok(Batch {
            view: kept,
            generation,
            rows: rows(view, columns, layout)?,
            bookmark: None,
        })
    }

    async fn write_batch(&self, batch: Batch) -> Result<Written, Error> {
        let rows = batch.rows.len();
        let newer = self.online.write(batch).await?;
        metrics::counter!("feast_pushed_rows_total").increment(rows as u64);
        Ok(Written { rows, newer })
    }
}

type Keyed = (Box<[u8]>, Row);

fn rows(view: &FeatureView, columns: &Columns, layout: u32) -> Result<Vec<Keyed>, Error> {
    let find = |name: &str| {
        columns.get(name).ok_or_else(|| {
            Error::Invalid(format!(
                "the rows have no column {name:?}, which feature view '{}' has; their columns are: {}",
                view.name,
                columns.keys().cloned().collect::<Vec<_>>().join(", ")
            ))
        })
    };
    let keys = view.join_keys.iter().map(|key| find(key));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let features = view.features.iter().map(|feature| find(&feature.name));
    let features = features.collect::<Result<Vec<_>, _>>()?;
    let timestamp = &view.source.timestamp_column;
    let times = columns.get(timestamp);
    let times = match times {
        Some(times) => times,
        None => find(EVENT_TIMESTAMP)?,
    };
    let created = view.source.created_column.as_deref().unwrap_or(CREATED);
    let created = columns.get(created).or_else(|| columns.get(CREATED));
    let count = times.len();
    if let Some((name, values)) = columns.iter().find(|(_, values)| values.len() != count) {
        return Err(Error::Invalid(format!(
            "column {name:?} has {} values, but there are {count} rows",
            values.len()
        )));
    }
    let mut rows = Vec::with_capacity(count);
    for row in 0..count {
        let wrong = |column: &str, problem: &str| {
            Error::Invalid(format!("row {row}, column {column:?}: {problem}"))
        };
        let mut key = Vec::new();
        for ((name, dtype), values) in view.join_keys.iter().zip(&view.join_key_types).zip(&keys) {
            if !view::push_key(name, *dtype, &values[row], &mut key)? {
                return Err(wrong(name, "a join key cannot be null"));
            }
        }
        let time = |value: &Value| {
            value::time(value).ok_or_else(|| {
                wrong(
                    timestamp,
                    &format!("{value} is no time: give ISO 8601 or seconds since 1970"),
                )
            })
        };
        let created = created.map(|values| &values[row]).filter(|v| !v.is_null());
        let stamp = Stamp {
            us: time(&times[row])?,
            created: created.map(time).transpose()?,
        };
        let mut problem = Ok(());
        let kept = Row::new(stamp, layout, |bytes| {
            problem = view
                .features
                .iter()
                .zip(&features)
                .try_for_each(|(feature, values)| {
                    value::encode_json(feature.dtype, &values[row], bytes)
                        .map_err(|problem| wrong(&feature.name, &problem))
                });
        });
        problem?;
        rows.push((key.into(), kept));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::registry::PROJECT;
    use crate::{Config, MIGRATIONS, proto};

    const INT64: i32 = 4;

    async fn define(store: &FeatureStore, key: &str, now: i64) -> FeatureView {
        let column = |name: &str| proto::FeatureSpec {
            name: name.to_owned(),
            value_type: INT64,
            ..proto::FeatureSpec::default()
        };
        let spec = proto::FeatureViewSpec {
            name: "stats".to_owned(),
            project: PROJECT.to_owned(),
            entity_columns: vec![column(key)],
            features: vec![column("value")],
            online: true,
            ..proto::FeatureViewSpec::default()
        };
        let spec = Some(spec);
        let bytes = proto::FeatureView { spec, meta: None }.encode_to_vec();
        let applied = store.apply_object(PROJECT, Kind::FeatureView, "stats", bytes, now);
        applied.await.unwrap();
        store.feature_view(PROJECT, "stats").await.unwrap()
    }

    fn columns(key: &str, at: i64) -> Columns {
        let columns = [
            (key, json!([1])),
            ("value", json!([7])),
            ("event_timestamp", json!([at])),
        ];
        let columns = columns.into_iter().map(|(name, values)| {
            let values = values.as_array().unwrap().clone();
            (name.to_owned(), values)
        });
        columns.collect()
    }

    #[tokio::test]
    async fn a_write_by_the_keys_of_before_does_not_remove_what_came_by_those_of_now() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let before = define(&store, "customer", 1).await;
        store
            .write_rows(&before, &columns("customer", 1))
            .await
            .unwrap();
        let now = define(&store, "account", 2).await;
        store
            .write_rows(&now, &columns("account", 1))
            .await
            .unwrap();
        let late = store.write_rows(&before, &columns("customer", 1)).await;
        assert!(
            matches!(late, Err(Error::RemovedMeanwhile { .. })),
            "{late:?}"
        );
        // What was written by the keys of now is there, and is newer than this.
        let again = store
            .write_rows(&now, &columns("account", 0))
            .await
            .unwrap();
        assert_eq!(again.newer, 0);
    }

    #[tokio::test]
    async fn a_write_to_a_view_that_was_deleted_meanwhile_leaves_nothing_to_one_of_its_name() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let found = define(&store, "customer", 3).await;
        let deleted = store.delete_object(PROJECT, Kind::FeatureView, "stats");
        deleted.await.unwrap();
        let late = store.write_rows(&found, &columns("customer", 1)).await;
        assert!(
            matches!(late, Err(Error::RemovedMeanwhile { .. })),
            "{late:?}"
        );
        let anew = define(&store, "customer", 4).await;
        let first = store.write_rows(&anew, &columns("customer", 0)).await;
        assert_eq!(first.unwrap().newer, 1);
    }

    #[tokio::test]
    async fn what_a_deleted_view_has_left_is_not_of_the_next_one_of_its_name() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let found = define(&store, "customer", 5).await;
        let deleted = store.delete_object(PROJECT, Kind::FeatureView, "stats");
        deleted.await.unwrap();
        // As if it had been pushed before, and removing it had failed.
        let rows = store.online.rows(PROJECT, "stats").await.unwrap();
        let generation = rows.about().generation;
        let layout = store.online.layout(&rows, &found, generation).await;
        let batch = Batch {
            view: rows.clone(),
            generation,
            rows: super::rows(&found, &columns("customer", 1), layout.unwrap()).unwrap(),
            bookmark: None,
        };
        assert_eq!(store.online.write(batch).await.unwrap(), 1);
        let left = store.online.left(PROJECT, "stats").await.unwrap();
        let anew = define(&store, "customer", 6).await;
        assert_eq!(store.online.count(&rows, &anew).await.unwrap(), 0);
        // Nor can who still has the old one write to it.
        let late = store.write_rows(&found, &columns("customer", 1)).await;
        assert!(
            matches!(late, Err(Error::RemovedMeanwhile { .. })),
            "{late:?}"
        );
        let first = store.write_rows(&anew, &columns("customer", 0)).await;
        assert_eq!(first.unwrap().newer, 1);
        // Who saw what was left, and is late.
        store.online.forget_left(left).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
}
