//! What runs logged, as PostgreSQL gives it: one row per run, which holds lists.
//!
//! A statement is a round trip, and a row costs more than what it holds: all of a run comes in one.

use db::{Conn, Error, Row, query};

use crate::dataset::Dataset;
use crate::metric::Metric;
use crate::record::RunRecord;
use crate::store::records::{add_dataset, places};
use crate::store::runs;

/// The lists of a run whose number is `r.run`, in the order that [`read`] takes them. Datasets are
/// few, with many columns: each is a list in JSON.
const LISTS: &str = "m.keys, m.bits, m.timestamps, m.steps, p.keys, p.texts, t.keys, t.texts, d.datasets, o.directions, o.models, o.steps";

const OF_RUN: &str = "
    CROSS JOIN LATERAL (SELECT array_agg(key) AS keys, array_agg(value_bits) AS bits,
            array_agg(timestamp) AS timestamps, array_agg(step) AS steps
        FROM latest_metrics WHERE run = r.run) m
    CROSS JOIN LATERAL (SELECT array_agg(key) AS keys, array_agg(value) AS texts
        FROM params WHERE run = r.run) p
    CROSS JOIN LATERAL (SELECT array_agg(key) AS keys, array_agg(value) AS texts
        FROM tags WHERE run = r.run) t
    CROSS JOIN LATERAL (SELECT CAST(json_agg(json_build_array(
                s.name, s.digest, s.source_type, s.source, s.schema, s.profile, g.key, g.value)
            ORDER BY i.position, s.dataset_id, g.key) AS TEXT) AS datasets
        FROM run_datasets i JOIN datasets s ON s.dataset_id = i.dataset_id
        LEFT JOIN run_dataset_tags g ON g.run = i.run AND g.dataset_id = i.dataset_id
        WHERE i.run = r.run) d
    CROSS JOIN LATERAL (SELECT array_agg(direction ORDER BY direction, step, model_id) AS directions,
            array_agg(model_id ORDER BY direction, step, model_id) AS models,
            array_agg(step ORDER BY direction, step, model_id) AS steps
        FROM run_models WHERE run = r.run) o";

/// The run with this id and what it logged.
pub(super) async fn find(conn: &mut Conn, run_id: &str) -> Result<Option<RunRecord>, Error> {
    let columns = runs::COLUMNS;
    let sql = format!("SELECT {columns}, {LISTS} FROM runs r {OF_RUN} WHERE r.run_id = $1");
    let row = query(sql).bind(run_id).fetch_optional(conn).await?;
    Ok(row.map(|row| {
        let mut record = RunRecord::empty(runs::read(&row));
        read(&row, runs::COLUMN_COUNT, &mut record);
        record
    }))
}

/// Fills in what the runs logged.
pub(super) async fn fill(conn: &mut Conn, records: &mut [RunRecord]) -> Result<(), Error> {
    let wanted: Vec<i64> = records.iter().map(|record| record.run.row).collect();
    let places = places(records);
    let sql = format!("SELECT r.run, {LISTS} FROM UNNEST($1::BIGINT[]) r(run) {OF_RUN}");
    let each = |row: &Row| {
        if let Some(place) = places.get(&row.get(0)) {
            read(row, 1, &mut records[*place]);
        }
    };
    query(sql).bind(wanted).for_each(conn, each).await
}

/// Reads the [`LISTS`], the first of which is at the column `first`.
fn read(row: &Row, first: usize, record: &mut RunRecord) {
    let numbers = |at: usize| {
        let list: Option<Vec<i64>> = row.get(first + at);
        list.unwrap_or_default().into_iter()
    };
    let texts = |at: usize| {
        let list: Option<Vec<String>> = row.get(first + at);
        list.unwrap_or_default().into_iter()
    };
    let points = numbers(1).zip(numbers(2)).zip(numbers(3));
    let metrics = texts(0)
        .zip(points)
        .map(|(key, ((bits, timestamp), step))| Metric {
            key,
            value: Metric::read_bits(bits),
            timestamp,
            step,
        });
    record.metrics = metrics.collect();
    record.params = texts(4).zip(texts(5)).collect();
    record.tags = texts(6).zip(texts(7)).collect();
    // The order of an aggregate is not promised; a sorted list is sorted at once.
    record.metrics.sort_by(|a, b| a.key.cmp(&b.key));
    record.params.sort();
    record.tags.sort();
    read_datasets(row.get(first + 8), record);
    for (direction, (model, step)) in texts(9).zip(texts(10).zip(numbers(11))) {
        if direction == "input" {
            record.model_inputs.push(model);
        } else {
            record.model_outputs.push((model, step));
        }
    }
}

type DatasetRow = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

fn read_datasets(json: Option<String>, record: &mut RunRecord) {
    let Some(json) = json else { return };
    let rows: Vec<DatasetRow> =
        serde_json::from_str(&json).expect("the statement makes a list of lists of texts");
    for (name, digest, source_type, source, schema, profile, key, value) in rows {
        let dataset = Dataset {
            name,
            digest,
            source_type,
            source,
            schema,
            profile,
        };
        add_dataset(record, dataset, key.zip(value));
    }
}
