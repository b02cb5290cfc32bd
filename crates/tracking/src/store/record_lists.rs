//! What runs logged, as PostgreSQL gives it: one row, which holds lists.
//!
//! A statement is a round trip, and a row costs more than what it holds: all of a page comes in one.

use std::collections::{BTreeSet, HashMap};

use db::{Conn, Error, Row, query};

use crate::dataset::DatasetInput;
use crate::metric::Metric;
use crate::record::RunRecord;
use crate::store::records::places;
use crate::store::{datasets, runs};

/// The lists of the runs in `wanted`, in the order that [`fill_from`] takes them. What ties runs to
/// datasets is little, and may be NULL: it is a list in JSON.
const LISTS: &str = "m.runs, m.keys, m.bits, m.timestamps, m.steps, p.runs, p.keys, p.texts, t.runs, t.keys, t.texts, d.inputs, o.runs, o.directions, o.models, o.steps";

/// Each run is looked up by itself (OFFSET 0), whatever PostgreSQL guesses about the tables.
const OF_WANTED: &str = "
    (SELECT array_agg(w.run) AS runs, array_agg(i.key) AS keys, array_agg(i.value_bits) AS bits,
            array_agg(i.timestamp) AS timestamps, array_agg(i.step) AS steps
        FROM wanted w CROSS JOIN LATERAL (SELECT * FROM latest_metrics WHERE run = w.run OFFSET 0) i) m
    CROSS JOIN (SELECT array_agg(w.run) AS runs, array_agg(i.key) AS keys, array_agg(i.value) AS texts
        FROM wanted w CROSS JOIN LATERAL (SELECT * FROM params WHERE run = w.run OFFSET 0) i) p
    CROSS JOIN (SELECT array_agg(w.run) AS runs, array_agg(i.key) AS keys, array_agg(i.value) AS texts
        FROM wanted w CROSS JOIN LATERAL (SELECT * FROM tags WHERE run = w.run OFFSET 0) i) t
    CROSS JOIN (SELECT CAST(json_agg(json_build_array(w.run, i.dataset_id, i.key, i.value)
            ORDER BY w.run, i.position, i.dataset_id, i.key) AS TEXT) AS inputs
        FROM wanted w CROSS JOIN LATERAL (SELECT r.dataset_id, r.position, g.key, g.value
            FROM run_datasets r LEFT JOIN run_dataset_tags g ON g.run = r.run AND g.dataset_id = r.dataset_id
            WHERE r.run = w.run OFFSET 0) i) d
    CROSS JOIN (SELECT array_agg(w.run ORDER BY i.direction, i.step, i.model_id) AS runs,
            array_agg(i.direction ORDER BY i.direction, i.step, i.model_id) AS directions,
            array_agg(i.model_id ORDER BY i.direction, i.step, i.model_id) AS models,
            array_agg(i.step ORDER BY i.direction, i.step, i.model_id) AS steps
        FROM wanted w CROSS JOIN LATERAL (SELECT * FROM run_models WHERE run = w.run OFFSET 0) i) o";

/// The run with this id and what it logged.
pub(super) async fn find(conn: &mut Conn, run_id: &str) -> Result<Option<RunRecord>, Error> {
    let columns = runs::COLUMNS;
    let sql = format!(
        "WITH r AS MATERIALIZED (SELECT * FROM runs WHERE run_id = $1), wanted AS (SELECT run FROM r)
         SELECT {columns}, {LISTS} FROM r CROSS JOIN {OF_WANTED}"
    );
    let Some(row) = query(sql).bind(run_id).fetch_optional(conn).await? else {
        return Ok(None);
    };
    let mut records = [RunRecord::empty(runs::read(&row))];
    let inputs = fill_from(&row, runs::COLUMN_COUNT, &mut records);
    fill_datasets(conn, &mut records, inputs).await?;
    let [record] = records;
    Ok(Some(record))
}

/// Fills in what the runs logged.
pub(super) async fn fill(conn: &mut Conn, records: &mut [RunRecord]) -> Result<(), Error> {
    let wanted: Vec<i64> = records.iter().map(|record| record.run.row).collect();
    let sql = format!(
        "WITH wanted AS MATERIALIZED (SELECT run FROM UNNEST($1::BIGINT[]) w(run))
         SELECT {LISTS} FROM {OF_WANTED}"
    );
    let row = query(sql).bind(wanted).fetch_one(conn).await?;
    let inputs = fill_from(&row, 0, records);
    fill_datasets(conn, records, inputs).await
}

/// That a run read the dataset with an id, with one of the tags of that; all of one reading come one
/// after the other.
type Input = (i64, String, Option<String>, Option<String>);

/// Fills in the datasets that runs read, each of which is sent once: a profile may take megabytes,
/// and many runs read the same.
async fn fill_datasets(
    conn: &mut Conn,
    records: &mut [RunRecord],
    inputs: Vec<Input>,
) -> Result<(), Error> {
    if inputs.is_empty() {
        return Ok(());
    }
    let ids: BTreeSet<&String> = inputs.iter().map(|(_, id, ..)| id).collect();
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    let datasets = datasets::with_ids(conn, ids).await?;
    let places = places(records);
    let mut last = None;
    for (run, id, key, value) in inputs {
        let (Some(place), Some(dataset)) = (places.get(&run), datasets.get(&id)) else {
            continue;
        };
        let read = &mut records[*place].datasets;
        let reading = (run, id);
        if last.as_ref() != Some(&reading) {
            read.push(DatasetInput {
                dataset: dataset.clone(),
                tags: Vec::new(),
            });
            last = Some(reading);
        }
        if let Some(input) = read.last_mut() {
            input.tags.extend(key.zip(value));
        }
    }
    Ok(())
}

/// Fills in from the [`LISTS`], the first of which is at the column `first`; what datasets the runs
/// read is left.
fn fill_from(row: &Row, first: usize, records: &mut [RunRecord]) -> Vec<Input> {
    let mut lists = Lists {
        row,
        first,
        places: places(records),
        records,
    };
    lists.read_metrics();
    lists.read_pairs(5, |record| &mut record.params);
    lists.read_pairs(8, |record| &mut record.tags);
    lists.read_models();
    lists.inputs()
}

struct Lists<'r> {
    row: &'r Row,
    first: usize,
    places: HashMap<i64, usize>,
    records: &'r mut [RunRecord],
}

impl Lists<'_> {
    fn numbers(&self, at: usize) -> impl Iterator<Item = i64> + use<> {
        let list: Option<Vec<i64>> = self.row.get(self.first + at);
        list.unwrap_or_default().into_iter()
    }

    fn texts(&self, at: usize) -> impl Iterator<Item = String> + use<> {
        let list: Option<Vec<String>> = self.row.get(self.first + at);
        list.unwrap_or_default().into_iter()
    }

    fn record(&mut self, run: i64) -> Option<&mut RunRecord> {
        let place = self.places.get(&run)?;
        self.records.get_mut(*place)
    }

    fn read_metrics(&mut self) {
        let points = self.numbers(2).zip(self.numbers(3)).zip(self.numbers(4));
        let keys = self.numbers(0).zip(self.texts(1));
        for ((run, key), ((bits, timestamp), step)) in keys.zip(points) {
            if let Some(record) = self.record(run) {
                record.metrics.push(Metric {
                    key,
                    value: Metric::read_bits(bits),
                    timestamp,
                    step,
                });
            }
        }
        // The order of an aggregate is not promised; a sorted list is sorted at once.
        for record in &mut *self.records {
            record.metrics.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }

    fn read_pairs(
        &mut self,
        at: usize,
        pairs: impl Fn(&mut RunRecord) -> &mut Vec<(String, String)>,
    ) {
        let found = self.texts(at + 1).zip(self.texts(at + 2));
        for (run, pair) in self.numbers(at).zip(found) {
            if let Some(record) = self.record(run) {
                pairs(record).push(pair);
            }
        }
        for record in &mut *self.records {
            pairs(record).sort();
        }
    }

    fn inputs(&self) -> Vec<Input> {
        let json: Option<String> = self.row.get(self.first + 11);
        let Some(json) = json else {
            return Vec::new();
        };
        serde_json::from_str(&json).expect("the statement makes a list of lists of texts")
    }

    fn read_models(&mut self) {
        let models = self.texts(14).zip(self.numbers(15));
        let found = self.numbers(12).zip(self.texts(13)).zip(models);
        for ((run, direction), (model, step)) in found {
            let Some(record) = self.record(run) else {
                continue;
            };
            if direction == "input" {
                record.model_inputs.push(model);
            } else {
                record.model_outputs.push((model, step));
            }
        }
    }
}
