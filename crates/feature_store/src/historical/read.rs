//! The read itself: each view's table once, its newest values beside the entity rows.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use tokio::task::JoinSet;

use super::as_of::{AsOf, Rows, Slots};
use super::keys::Keys;
use super::request::{HistoricalRequest, ViewUse};
use super::scan::{Scan, Times};
use crate::FeatureStore;
use crate::error::Error;
use crate::table::{self, Column, TableRef};

/// The answer of a read.
#[derive(Debug, Clone)]
pub struct Historical {
    /// The columns of the entity rows, then the features in the order of the request.
    pub rows: RecordBatch,
    /// The snapshot that each view was read at: with it the same read gives the same answer.
    pub snapshots: Vec<(String, TableRef, Option<i64>)>,
}

impl FeatureStore {
    /// Joins features to entity rows as they were known at the rows' times.
    ///
    /// # Errors
    /// When a key is missing or cannot match, a table cannot be read, or two features would have
    /// the same name.
    pub async fn historical(&self, request: HistoricalRequest) -> Result<Historical, Error> {
        let started = Instant::now();
        let names = output_names(&request)?;
        let mut columns = request.entities.batch.columns().to_vec();
        let mut snapshots = Vec::new();
        for used in &request.views {
            let (found, snapshot) = self.read_view(used, &request).await?;
            columns.extend(found);
            snapshots.push((used.alias.clone(), used.view.table()?.clone(), snapshot));
        }
        let fields: Vec<Field> = names
            .iter()
            .zip(&columns)
            .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        metrics::histogram!("feast_historical_retrieval_seconds")
            .record(started.elapsed().as_secs_f64());
        metrics::counter!("feast_historical_rows_total").increment(rows.num_rows() as u64);
        Ok(Historical { rows, snapshots })
    }

    async fn read_view(
        &self,
        used: &ViewUse,
        request: &HistoricalRequest,
    ) -> Result<(Vec<ArrayRef>, Option<i64>), Error> {
        let name = used.view.table()?;
        let table = self.catalogs.table(name).await?;
        let columns = Columns::find(used, name, &table::columns(&table))?;
        let key_columns = entity_keys(used, request)?;
        let moments = &request.entities.moments;
        let (keys, numbers) = Keys::new(&key_columns, &columns.key_types, moments.us.len())?;
        let slots = Arc::new(Slots::new(&numbers, moments, used.view.ttl_us));
        let times = slots.range().map(|(first, last)| Times {
            column: &columns.timestamp,
            first,
            last,
        });
        let scan = Scan::plan(name, &table, &columns.all(), times.as_ref(), used.snapshot).await?;
        let snapshot = scan.snapshot_id;
        let found = if times.is_some() {
            join(scan, Arc::new(keys), slots, columns.clone()).await?
        } else {
            AsOf::new(slots, columns.schema.clone())
        };
        let found = found.finish(moments)?;
        let found = found
            .into_iter()
            .zip(&used.features)
            .map(|(column, feature)| {
                let Some(target) = used.view.feature(feature)?.dtype.arrow_type() else {
                    return Ok(column);
                };
                let options = CastOptions {
                    safe: false,
                    ..CastOptions::default()
                };
                cast_with_options(&column, &target, &options).map_err(Error::value(format!(
                    "feature {}:{feature} holds a value that its declared type cannot",
                    used.alias
                )))
            });
        Ok((found.collect::<Result<_, _>>()?, snapshot))
    }
}

/// The columns of the table that a read of a view needs.
#[derive(Debug, Clone)]
struct Columns {
    keys: Vec<String>,
    key_types: Vec<DataType>,
    timestamp: String,
    created: Option<String>,
    features: Vec<String>,
    schema: SchemaRef,
}

impl Columns {
    fn find(used: &ViewUse, name: &TableRef, there: &[Column]) -> Result<Self, Error> {
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
    fn all(&self) -> Vec<String> {
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

/// The columns of the entity rows that hold a view's keys.
fn entity_keys(
    used: &ViewUse,
    request: &HistoricalRequest,
) -> Result<Vec<(String, ArrayRef)>, Error> {
    let keys = used.view.join_keys.iter().map(|key| {
        let name = used.join_key_map.get(key).unwrap_or(key);
        match request.entities.batch.column_by_name(name) {
            Some(column) => Ok((name.clone(), column.clone())),
            None => Err(Error::Invalid(format!(
                "the entity rows have no column {name:?}, the join key of feature view '{}'; their columns are: {}",
                used.view.name,
                request.entities.column_names().join(", ")
            ))),
        }
    });
    keys.collect()
}

/// The names of all columns of the answer. A feature that is called like a column of the entity
/// rows gets `__` behind it, as in Feast.
fn output_names(request: &HistoricalRequest) -> Result<Vec<String>, Error> {
    let mut names = request.entities.column_names();
    let entity_columns: HashSet<String> = names.iter().cloned().collect();
    let mut features: HashSet<String> = HashSet::new();
    for used in &request.views {
        for feature in &used.features {
            let name = if request.full_feature_names {
                format!("{}__{feature}", used.alias)
            } else {
                feature.clone()
            };
            if !features.insert(name.clone()) {
                return Err(Error::Invalid(format!(
                    "two features would be called {name:?}; ask for full_feature_names"
                )));
            }
            names.push(if entity_columns.contains(&name) {
                format!("{name}__")
            } else {
                name
            });
        }
    }
    Ok(names)
}

/// Reads all pieces of a table, as many at once as there are processors.
async fn join(
    scan: Scan,
    keys: Arc<Keys>,
    slots: Arc<Slots>,
    columns: Columns,
) -> Result<AsOf, Error> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.min(scan.pieces()).max(1);
    let (scan, columns) = (Arc::new(scan), Arc::new(columns));
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks: JoinSet<Result<AsOf, Error>> = JoinSet::new();
    for _ in 0..workers {
        let (scan, keys, slots) = (scan.clone(), keys.clone(), slots.clone());
        let (columns, next) = (columns.clone(), next.clone());
        tasks.spawn(async move {
            let mut found = AsOf::new(slots, columns.schema.clone());
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= scan.pieces() {
                    return Ok(found);
                }
                let each = |batch| push(&mut found, &batch, &keys, &columns, piece as u32);
                scan.read(piece, each).await?;
            }
        });
    }
    let mut all: Option<AsOf> = None;
    while let Some(ended) = tasks.join_next().await {
        let found = match ended {
            Ok(found) => found?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match &mut all {
            Some(all) => all.merge(found),
            None => all = Some(found),
        }
    }
    Ok(all.unwrap_or_else(|| AsOf::new(slots, columns.schema.clone())))
}

fn push(
    found: &mut AsOf,
    batch: &RecordBatch,
    keys: &Keys,
    columns: &Columns,
    file: u32,
) -> Result<(), Error> {
    let column = |name: &String| {
        batch
            .column_by_name(name)
            .cloned()
            .ok_or_else(|| ArrowError::SchemaError(format!("the scan gave no column {name:?}")))
    };
    let key_columns = columns
        .keys
        .iter()
        .map(column)
        .collect::<Result<Vec<_>, _>>()?;
    let us = column(&columns.timestamp)?;
    let us: &TimestampMicrosecondArray = us.as_primitive::<TimestampMicrosecondType>();
    let created = columns.created.as_ref().map(column).transpose()?;
    let created = created
        .as_ref()
        .map(|c| c.as_primitive::<TimestampMicrosecondType>());
    let features = columns
        .features
        .iter()
        .map(column)
        .collect::<Result<Vec<_>, _>>()?;
    let features = RecordBatch::try_new(columns.schema.clone(), features)?;
    let at = |array: &TimestampMicrosecondArray, row| array.is_valid(row).then(|| array.value(row));
    found.push(&Rows {
        numbers: &keys.find(&key_columns, batch.num_rows())?,
        us: &|row| at(us, row),
        created: &|row| created.and_then(|created| at(created, row)),
        features,
        file,
    })
}
