//! What runs logged, read for a page of runs at once: one statement per table, one row per run.
//!
//! A page of 100 runs has some thousand metrics, params and tags. From SQLite they come row by row;
//! a row of PostgreSQL costs more than what it holds, so there a run's come as arrays.

use std::collections::HashMap;

use db::{Backend, Conn, Error, Row, query};

use crate::dataset::{Dataset, DatasetInput};
use crate::metric::Metric;
use crate::record::RunRecord;
use crate::store::Ids;

/// Fills in what the runs logged.
pub(crate) async fn fill(conn: &mut Conn, records: &mut [RunRecord]) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    let ids = Ids::of(records.iter().map(|record| record.run.row));
    let mut filler = Filler {
        place: places(records),
        records,
    };
    let listed = ids.table(conn.backend(), 1);
    let metrics = metrics_of_runs(conn, &ids).await?;
    filler.each(metrics, |record, metrics| record.metrics = metrics);
    let params = pairs_of_runs(conn, "params", &ids).await?;
    filler.each(params, |record, params| record.params = params);
    let tags = pairs_of_runs(conn, "tags", &ids).await?;
    filler.each(tags, |record, tags| record.tags = tags);
    fill_inputs(conn, &mut filler, &ids, &listed).await
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

fn places(records: &[RunRecord]) -> HashMap<i64, usize> {
    let rows = records.iter().map(|record| record.run.row);
    rows.enumerate().map(|(place, run)| (run, place)).collect()
}

/// What the runs have in a table, each run's in one list.
type OfRuns<T> = Vec<(i64, Vec<T>)>;

async fn metrics_of_runs(conn: &mut Conn, ids: &Ids) -> Result<OfRuns<Metric>, Error> {
    let metric = |key, bits, timestamp, step| Metric {
        key,
        value: Metric::read_bits(bits),
        timestamp,
        step,
    };
    let columns = ["key", "value_bits", "timestamp", "step"];
    let mut found = Vec::new();
    of_runs(conn, "latest_metrics", &columns, ids, |row| match row {
        Gathered::Row(row) => {
            let metric = metric(row.get(1), row.get(2), row.get(3), row.get(4));
            add_to_last(&mut found, row.get(0), metric);
        }
        Gathered::Arrays(row) => {
            let list = |column: usize| row.get::<Vec<i64>, _>(column).into_iter();
            let keys = row.get::<Vec<String>, _>(1).into_iter();
            let rest = list(2).zip(list(3)).zip(list(4));
            let metrics = keys.zip(rest);
            let metrics = metrics.map(|(key, ((bits, time), step))| metric(key, bits, time, step));
            found.push((row.get(0), metrics.collect()));
        }
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
    of_runs(conn, table, &["key", "value"], ids, |row| match row {
        Gathered::Row(row) => add_to_last(&mut found, row.get(0), (row.get(1), row.get(2))),
        Gathered::Arrays(row) => {
            let list = |column: usize| row.get::<Vec<String>, _>(column).into_iter();
            found.push((row.get(0), list(1).zip(list(2)).collect()));
        }
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

/// A row of a table, or all of a run's rows in one; the run stands first.
enum Gathered<'r> {
    Row(&'r Row),
    Arrays(&'r Row),
}

async fn of_runs(
    conn: &mut Conn,
    table: &str,
    columns: &[&str],
    ids: &Ids,
    mut each: impl FnMut(Gathered<'_>),
) -> Result<(), Error> {
    let backend = conn.backend();
    let from = format!(
        "FROM {} CROSS JOIN {table} t WHERE t.run = ids.value",
        ids.table(backend, 1)
    );
    // `value` is a name in both tables.
    let columns = columns.iter().map(|column| match backend {
        Backend::Sqlite => format!("t.{column}"),
        Backend::Postgres => format!("array_agg(t.{column})"),
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let group = match backend {
        Backend::Sqlite => "",
        Backend::Postgres => "GROUP BY t.run",
    };
    let rows = query(format!("SELECT t.run, {columns} {from} {group}")).bind(ids.text());
    let each = |row: &Row| match backend {
        Backend::Sqlite => each(Gathered::Row(row)),
        Backend::Postgres => each(Gathered::Arrays(row)),
    };
    rows.for_each(conn, each).await
}

/// Datasets with their tags, and logged models.
async fn fill_inputs(
    conn: &mut Conn,
    filler: &mut Filler<'_>,
    ids: &Ids,
    listed: &str,
) -> Result<(), Error> {
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
    filler.each(
        rows.iter().map(read).collect(),
        |record, (dataset, tag)| match record.datasets.last_mut() {
            Some(last) if last.dataset == dataset => last.tags.extend(tag),
            _ => record.datasets.push(DatasetInput {
                dataset,
                tags: tag.into_iter().collect(),
            }),
        },
    );

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
