//! What runs logged, read for a page of runs at once.
//!
//! A page of 100 runs has some thousand metrics, params and tags. From SQLite they come row by row, a
//! statement per table; from PostgreSQL as lists (record_lists.rs).

use std::collections::HashMap;

use db::{Backend, Conn, Error, Row, query};

use crate::dataset::{Dataset, DatasetInput};
use crate::metric::Metric;
use crate::record::RunRecord;
use crate::store::{Ids, record_lists, runs};

/// The run with this id and what it logged.
pub(crate) async fn find(conn: &mut Conn, run_id: &str) -> Result<Option<RunRecord>, Error> {
    if conn.backend() == Backend::Postgres {
        return record_lists::find(conn, run_id).await;
    }
    let Some(run) = runs::find(conn, run_id).await? else {
        return Ok(None);
    };
    let mut records = [RunRecord::empty(run)];
    fill(conn, &mut records).await?;
    let [record] = records;
    Ok(Some(record))
}

/// Fills in what the runs logged.
pub(crate) async fn fill(conn: &mut Conn, records: &mut [RunRecord]) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    if conn.backend() == Backend::Postgres {
        return record_lists::fill(conn, records).await;
    }
    let ids = Ids::of(records.iter().map(|record| record.run.row));
    let mut filler = Filler {
        place: places(records),
        records,
    };
    let metrics = metrics_of_runs(conn, &ids).await?;
    filler.each(metrics, |record, metrics| record.metrics = metrics);
    let params = pairs_of_runs(conn, "params", &ids).await?;
    filler.each(params, |record, params| record.params = params);
    let tags = pairs_of_runs(conn, "tags", &ids).await?;
    filler.each(tags, |record, tags| record.tags = tags);
    fill_inputs(conn, &mut filler, &ids).await
}

struct Filler<'r> {
    records: &'r mut [RunRecord],
    place: HashMap<i64, usize>,
}

impl Filler<'_> {
    fn each<T>(&mut self, items: Vec<(i64, T)>, add: impl Fn(&mut RunRecord, T)) {
        for (run, item) in items {
            if let Some(place) = self.place.get(&run) {
                add(&mut self.records[*place], item);
            }
        }
    }
}

/// The place of each run by its number.
pub(super) fn places(records: &[RunRecord]) -> HashMap<i64, usize> {
    let rows = records.iter().map(|record| record.run.row);
    rows.enumerate().map(|(place, run)| (run, place)).collect()
}

/// What the runs have in a table, each run's in one list.
type OfRuns<T> = Vec<(i64, Vec<T>)>;

async fn metrics_of_runs(conn: &mut Conn, ids: &Ids) -> Result<OfRuns<Metric>, Error> {
    let columns = ["key", "value_bits", "timestamp", "step"];
    let mut found = Vec::new();
    of_runs(conn, "latest_metrics", &columns, ids, |row| {
        let metric = Metric {
            key: row.get(1),
            value: Metric::read_bits(row.get(2)),
            timestamp: row.get(3),
            step: row.get(4),
        };
        add_to_last(&mut found, row.get(0), metric);
    })
    .await?;
    // The order is that of the tables' keys, but no statement says so; a sorted list is sorted at once.
    for (_, metrics) in &mut found {
        metrics.sort_by(|a: &Metric, b| a.key.cmp(&b.key));
    }
    Ok(found)
}

async fn pairs_of_runs(
    conn: &mut Conn,
    table: &str,
    ids: &Ids,
) -> Result<OfRuns<(String, String)>, Error> {
    let mut found = Vec::new();
    of_runs(conn, table, &["key", "value"], ids, |row| {
        add_to_last(&mut found, row.get(0), (row.get(1), row.get(2)));
    })
    .await?;
    for (_, pairs) in &mut found {
        pairs.sort();
    }
    Ok(found)
}

/// Rows of one run come one after the other.
fn add_to_last<T>(found: &mut OfRuns<T>, run: i64, item: T) {
    match found.last_mut() {
        Some((last, items)) if *last == run => items.push(item),
        _ => found.push((run, vec![item])),
    }
}

/// The rows of a table; the run stands first.
async fn of_runs(
    conn: &mut Conn,
    table: &str,
    columns: &[&str],
    ids: &Ids,
    each: impl FnMut(&Row),
) -> Result<(), Error> {
    let listed = ids.table(conn.backend(), 1);
    // `value` is a name in both tables.
    let columns = columns.iter().map(|column| format!("t.{column}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT t.run, {columns} FROM {listed} CROSS JOIN {table} t WHERE t.run = ids.value"
    );
    query(sql).bind(ids.text()).for_each(conn, each).await
}

/// Datasets with their tags, and logged models.
async fn fill_inputs(conn: &mut Conn, filler: &mut Filler<'_>, ids: &Ids) -> Result<(), Error> {
    let listed = ids.table(conn.backend(), 1);
    let sql = format!(
        "SELECT i.run, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, t.key, t.value
         FROM {listed} CROSS JOIN run_datasets i JOIN datasets d ON d.dataset_id = i.dataset_id
         LEFT JOIN run_dataset_tags t ON t.run = i.run AND t.dataset_id = i.dataset_id
         WHERE i.run = ids.value ORDER BY i.run, i.position, d.dataset_id, t.key"
    );
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    let read = |row: &Row| {
        let dataset = Dataset {
            name: row.get(1),
            digest: row.get(2),
            source_type: row.get(3),
            source: row.get(4),
            schema: row.get(5),
            profile: row.get(6),
        };
        let tag = row.get::<Option<String>, _>(7).map(|key| (key, row.get(8)));
        (row.get(0), (dataset, tag))
    };
    filler.each(rows.iter().map(read).collect(), |record, (dataset, tag)| {
        add_dataset(record, dataset, tag)
    });

    let sql = format!(
        "SELECT m.run, m.model_id, m.step, m.direction FROM {listed} CROSS JOIN run_models m WHERE m.run = ids.value ORDER BY m.run, m.direction, m.step, m.model_id"
    );
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    let models = rows.iter().map(|row| {
        let input = row.get::<String, _>(3) == "input";
        (row.get(0), (row.get(1), row.get(2), input))
    });
    filler.each(models.collect(), |record, (model_id, step, input)| {
        if input {
            record.model_inputs.push(model_id);
        } else {
            record.model_outputs.push((model_id, step));
        }
    });
    Ok(())
}

/// Adds a dataset with one of its tags; all of a dataset's come one after the other.
fn add_dataset(record: &mut RunRecord, dataset: Dataset, tag: Option<(String, String)>) {
    match record.datasets.last_mut() {
        Some(last) if last.dataset == dataset => last.tags.extend(tag),
        _ => record.datasets.push(DatasetInput {
            dataset,
            tags: tag.into_iter().collect(),
        }),
    }
}
