//! The rows that a read of several views between two times is about: each time at which a view
//! has a row, once for each entity.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};

use super::EntityRows;
use super::columns::Columns;
use super::entity_table::MOST_ROWS;
use super::range::EVENT_TIMESTAMP;
use super::request::ViewUse;
use super::scan::{Only, Scan, Times};
use crate::FeatureStore;
use crate::dtype::UTC;
use crate::error::Error;
use crate::table::{self, TableRef};

/// The entity rows of some views between two times, in the order of the times. Each view that is
/// asked is from then on read at the snapshot that was asked.
///
/// # Errors
/// When the views are of different entities, or there are too many rows.
pub(super) async fn between(
    store: &FeatureStore,
    views: &mut [ViewUse],
    (first, last): (i64, i64),
) -> Result<EntityRows, Error> {
    let mut sources = Vec::new();
    for index in asked(views)? {
        sources.push(Source::open(store, index, &views[index]).await?);
    }
    let keys: Vec<String> = {
        let used = &views[sources[0].index];
        let keys = used.view.join_keys.iter();
        keys.map(|key| used.key_name(key).clone()).collect()
    };
    let kinds = kinds(views, &sources, &keys);
    let fields = kinds.iter().cloned().map(SortField::new);
    let converter = Arc::new(RowConverter::new(fields.collect())?);
    let mut found = Rows::default();
    for source in &sources {
        let used = &mut views[source.index];
        let columns = source.columns_of(used, &keys);
        let scan = source.scan(used, &columns, (first, last)).await?;
        used.pin(scan.snapshot_id);
        let (converter, kinds) = (converter.clone(), kinds.clone());
        let each = move |rows: &mut Rows, batch: RecordBatch, _| {
            take(rows, &batch, &columns, &kinds, &converter)
        };
        for part in scan.in_parallel(Rows::default, each).await? {
            found.extend(part);
            refuse_too_many(found.len())?;
        }
    }
    in_order(found, &converter, &keys)
}

/// Rows in the form in which they are compared, each once.
type Rows = HashSet<Box<[u8]>, ahash::RandomState>;

/// The table of a view whose rows are asked for.
struct Source {
    index: usize,
    name: TableRef,
    table: iceberg::table::Table,
    columns: Columns,
}

impl Source {
    async fn open(store: &FeatureStore, index: usize, used: &ViewUse) -> Result<Self, Error> {
        let name = used.view.table()?.clone();
        let table = store.catalogs().table(&name).await?;
        let columns = Columns::find(used, &name, &table::columns(&table))?;
        Ok(Self {
            index,
            name,
            table,
            columns,
        })
    }

    async fn scan(
        &self,
        used: &ViewUse,
        columns: &[String],
        (first, last): (i64, i64),
    ) -> Result<Scan, Error> {
        let times = Times {
            column: &self.columns.timestamp,
            first,
            last,
        };
        let only = Only {
            snapshot: used.snapshot,
            files: None,
        };
        Scan::plan(&self.name, &self.table, columns, Some(&times), only).await
    }

    /// The place of a key among the view's.
    fn place(used: &ViewUse, key: &String) -> Option<usize> {
        used.view
            .join_keys
            .iter()
            .position(|k| used.key_name(k) == key)
    }

    /// The table's columns: the time, and the keys in this order.
    fn columns_of(&self, used: &ViewUse, keys: &[String]) -> Vec<String> {
        let of = |key| Self::place(used, key).map(|place| self.columns.keys[place].clone());
        let time = [self.columns.timestamp.clone()];
        time.into_iter().chain(keys.iter().filter_map(of)).collect()
    }
}

/// The views whose rows count: not those that hold for more than the others do, such as a
/// country's beside a customer's.
fn asked(views: &[ViewUse]) -> Result<Vec<usize>, Error> {
    let names = |used: &ViewUse| -> BTreeSet<String> {
        used.view
            .join_keys
            .iter()
            .map(|key| used.key_name(key).clone())
            .collect()
    };
    let keys: Vec<BTreeSet<String>> = views.iter().map(names).collect();
    let narrowest = |own: &BTreeSet<String>| {
        keys.iter()
            .all(|other| own == other || !own.is_subset(other))
    };
    let asked: Vec<usize> = (0..views.len()).filter(|i| narrowest(&keys[*i])).collect();
    let Some(other) = asked.iter().find(|i| keys[**i] != keys[asked[0]]) else {
        return Ok(asked);
    };
    let list = |keys: &BTreeSet<String>| keys.iter().cloned().collect::<Vec<_>>().join(", ");
    Err(Error::Invalid(format!(
        "a read between two times needs views of the same entities: '{}' is by {}, '{}' by {}; give entity rows that have all of them",
        views[asked[0]].alias,
        list(&keys[asked[0]]),
        views[*other].alias,
        list(&keys[*other])
    )))
}

/// The types of the rows: the time, then each key as all tables can hold it.
fn kinds(views: &[ViewUse], sources: &[Source], keys: &[String]) -> Vec<DataType> {
    let of = |key: &String| {
        let kinds = sources.iter().filter_map(|source| {
            let place = Source::place(&views[source.index], key)?;
            Some(&source.columns.key_types[place])
        });
        let kinds: Vec<&DataType> = kinds.collect();
        let same = kinds.iter().all(|kind| *kind == kinds[0]);
        if !same && kinds.iter().all(|kind| kind.is_integer()) {
            DataType::Int64
        } else {
            kinds[0].clone()
        }
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    [time].into_iter().chain(keys.iter().map(of)).collect()
}

fn take(
    rows: &mut Rows,
    batch: &RecordBatch,
    columns: &[String],
    kinds: &[DataType],
    converter: &RowConverter,
) -> Result<(), Error> {
    let columns = columns.iter().zip(kinds).map(|(name, kind)| {
        let column = batch
            .column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("the scan gave no column {name:?}")))?;
        cast(column, kind)
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let encoded = converter.convert_columns(&columns)?;
    for row in &encoded {
        if !rows.contains(row.data()) {
            rows.insert(row.data().into());
        }
    }
    refuse_too_many(rows.len())
}

fn refuse_too_many(rows: usize) -> Result<(), Error> {
    if rows > MOST_ROWS {
        return Err(Error::Invalid(format!(
            "there are more than {MOST_ROWS} rows between these times; read shorter spans, or one view at a time"
        )));
    }
    Ok(())
}

fn in_order(found: Rows, converter: &RowConverter, keys: &[String]) -> Result<EntityRows, Error> {
    let mut found: Vec<Box<[u8]>> = found.into_iter().collect();
    found.sort_unstable();
    let parser = converter.parser();
    let columns = converter.convert_rows(found.iter().map(|row| parser.parse(row)))?;
    let names = std::iter::once(EVENT_TIMESTAMP).chain(keys.iter().map(String::as_str));
    let fields: Vec<Field> = names
        .zip(&columns)
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    EntityRows::new(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}
