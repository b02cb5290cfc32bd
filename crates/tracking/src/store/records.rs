//! What runs logged, read for a page of runs at once: one statement per table, one row per run.
//!
//! A page of 100 runs has some thousand metrics, params and tags, and each row costs more than what
//! it holds: the databases gather a run's into one JSON array of texts and whole numbers.

use std::collections::HashMap;

use db::{Backend, Conn, Error, Row, query};
use serde::de::DeserializeOwned;

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
    let among = ids.select(conn.backend(), 1);
    let columns = "key, value_bits, timestamp, step";
    let metrics = gathered(conn, "latest_metrics", columns, &ids).await?;
    filler.each(metrics, |record, metrics: Vec<(String, i64, i64, i64)>| {
        record.metrics = metrics.into_iter().map(read_metric).collect();
    });
    let params = gathered(conn, "params", "key, value", &ids).await?;
    filler.each(params, |record, params| record.params = params);
    let tags = gathered(conn, "tags", "key, value", &ids).await?;
    filler.each(tags, |record, tags| record.tags = tags);
    fill_inputs(conn, &mut filler, &ids, &among).await
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

fn read_metric((key, bits, timestamp, step): (String, i64, i64, i64)) -> Metric {
    Metric {
        key,
        value: Metric::read_bits(bits),
        timestamp,
        step,
    }
}

/// The rows of each run in a table, in the order of their first column.
async fn gathered<T: DeserializeOwned + Ord>(
    conn: &mut Conn,
    table: &str,
    columns: &str,
    ids: &Ids,
) -> Result<Vec<(i64, Vec<T>)>, Error> {
    let among = ids.select(conn.backend(), 1);
    let gather = match conn.backend() {
        Backend::Sqlite => format!("json_group_array(json_array({columns}))"),
        Backend::Postgres => format!("CAST(json_agg(json_build_array({columns})) AS TEXT)"),
    };
    let sql = format!("SELECT run, {gather} FROM {table} WHERE run IN ({among}) GROUP BY run");
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    let read = |row: &Row| {
        let text: String = row.get(1);
        let mut items: Vec<T> =
            serde_json::from_str(&text).expect("the statement writes arrays of its columns");
        // The order of an aggregate is not promised; a sorted list is sorted at once.
        items.sort();
        (row.get(0), items)
    };
    Ok(rows.iter().map(read).collect())
}

/// Datasets with their tags, and logged models.
async fn fill_inputs(
    conn: &mut Conn,
    filler: &mut Filler<'_>,
    ids: &Ids,
    among: &str,
) -> Result<(), Error> {
    let sql = format!(
        "SELECT i.run, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, t.key, t.value
         FROM run_datasets i JOIN datasets d ON d.dataset_id = i.dataset_id
         LEFT JOIN run_dataset_tags t ON t.run = i.run AND t.dataset_id = i.dataset_id
         WHERE i.run IN ({among}) ORDER BY i.run, i.position, d.dataset_id, t.key"
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
        "SELECT run, model_id, step, direction FROM run_models WHERE run IN ({among}) ORDER BY run, direction, step, model_id"
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
