//! The tables of metrics.

use db::{Conn, Error, query};

use crate::metric::{self, LoggedMetric, Metric};
use crate::page::Page;
use crate::store::{Ids, rows_of_values};

/// Rows of one INSERT: below SQLite's limit of 32,766 values, and below what makes a statement slow.
const ROWS: usize = 1_000;

/// Adds points and moves the latest ones forward; points that are there already are left alone.
///
/// Rows go in the order of their key, so that two writers of one run wait for one another instead
/// of each holding what the other needs.
pub(crate) async fn insert(
    conn: &mut Conn,
    run: i64,
    metrics: &[LoggedMetric],
) -> Result<(), Error> {
    let mut points: Vec<&Metric> = metrics.iter().map(|logged| &logged.metric).collect();
    points.sort_by(|a, b| {
        (&a.key, a.timestamp, a.step)
            .cmp(&(&b.key, b.timestamp, b.step))
            .then(a.stored().0.total_cmp(&b.stored().0))
    });
    for chunk in points.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO metrics (run, key, timestamp, step, value_bits) VALUES {} ON CONFLICT DO NOTHING",
            rows_of_values(conn.backend(), chunk.len(), 5)
        );
        let mut insert = query(sql);
        for point in chunk {
            insert = insert
                .bind(run)
                .bind(&point.key)
                .bind(point.timestamp)
                .bind(point.step)
                .bind(point.value_bits());
        }
        insert.execute(conn).await?;
    }
    for chunk in metric::latest(points.into_iter()).chunks(ROWS) {
        let sql = format!(
            "INSERT INTO latest_metrics (run, key, timestamp, step, value, is_nan, value_bits) VALUES {}
             ON CONFLICT (run, key) DO UPDATE SET
                 timestamp = excluded.timestamp, step = excluded.step,
                 value = excluded.value, is_nan = excluded.is_nan, value_bits = excluded.value_bits
             WHERE (excluded.step, excluded.timestamp, excluded.value)
                 > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)",
            rows_of_values(conn.backend(), chunk.len(), 7)
        );
        let mut upsert = query(sql);
        for point in chunk {
            let (value, is_nan) = point.stored();
            upsert = upsert
                .bind(run)
                .bind(&point.key)
                .bind(point.timestamp)
                .bind(point.step)
                .bind(value)
                .bind(is_nan)
                .bind(point.value_bits());
        }
        upsert.execute(conn).await?;
    }
    Ok(())
}

/// Adds those points that belong to a logged model to the model; models that are not there are
/// passed over.
pub(crate) async fn insert_of_models(
    conn: &mut Conn,
    run_id: &str,
    metrics: &[LoggedMetric],
) -> Result<(), Error> {
    for logged in metrics {
        let Some(model_id) = &logged.model_id else {
            continue;
        };
        let (value, is_nan) = logged.metric.stored();
        query(
            "INSERT INTO logged_model_metrics
                 (model_id, key, timestamp, step, value, is_nan, run_id, dataset_name, dataset_digest)
             SELECT model_id, $2, $3, $4, $5, $6, $7, $8, $9 FROM logged_models WHERE model_id = $1
             ON CONFLICT DO NOTHING",
        )
        .bind(model_id)
        .bind(&logged.metric.key)
        .bind(logged.metric.timestamp)
        .bind(logged.metric.step)
        .bind(value)
        .bind(is_nan)
        .bind(run_id)
        .bind(logged.dataset_name.as_deref().unwrap_or_default())
        .bind(logged.dataset_digest.as_deref().unwrap_or_default())
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// A point of a history; its key is known to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) timestamp: i64,
    pub(crate) step: i64,
    /// The value, as [`Metric::value_bits`] writes it.
    pub(crate) bits: i64,
}

impl Point {
    pub(crate) fn value(&self) -> f64 {
        Metric::read_bits(self.bits)
    }
}

/// Points read at once.
const POINTS: i64 = 100_000;

/// The points of a history, in the order of timestamp, step and value.
pub(crate) async fn history(
    conn: &mut Conn,
    run_id: &str,
    key: &str,
    page: Page,
) -> Result<Vec<Point>, Error> {
    let wanted = page.lookahead();
    let mut points = Vec::new();
    loop {
        let read = points.len() as i64;
        let limit = POINTS.min(wanted - read);
        let row = query(
            "SELECT string_agg(CAST(timestamp AS TEXT) || ' ' || CAST(step AS TEXT) || ' ' || CAST(value_bits AS TEXT), ' ')
             FROM (SELECT timestamp, step, value_bits FROM metrics
                   WHERE run = (SELECT run FROM runs WHERE run_id = $1) AND key = $2
                   ORDER BY timestamp, step, value_bits LIMIT $3 OFFSET $4) points",
        )
        .bind(run_id)
        .bind(key)
        .bind(limit)
        .bind(page.offset.saturating_add(read))
        .fetch_one(conn)
        .await?;
        let Some(text) = row.get::<Option<String>, _>(0) else {
            return Ok(points);
        };
        let mut more = read_points(&text);
        // The order of an aggregate is not promised; a sorted list is sorted at once.
        more.sort_by_key(|point| (point.timestamp, point.step, point.bits));
        let whole = more.len() as i64 == limit;
        points.append(&mut more);
        if !whole || points.len() as i64 >= wanted {
            return Ok(points);
        }
    }
}

/// Reads `timestamp step bits timestamp step bits ...`.
fn read_points(text: &str) -> Vec<Point> {
    let mut numbers = text
        .split(' ')
        .map(|number| number.parse().expect("the statement writes whole numbers"));
    let mut points = Vec::with_capacity(text.len() / 30);
    while let (Some(timestamp), Some(step), Some(bits)) =
        (numbers.next(), numbers.next(), numbers.next())
    {
        points.push(Point {
            bits,
            timestamp,
            step,
        });
    }
    points
}

/// The steps of one metric of many runs, each once, in their order; with the run's number.
pub(crate) async fn steps(
    conn: &mut Conn,
    runs: &Ids,
    key: &str,
) -> Result<Vec<(i64, i64)>, Error> {
    let sql = format!(
        "SELECT DISTINCT run, step FROM metrics WHERE run IN ({}) AND key = $2 ORDER BY run, step",
        runs.select(conn.backend(), 1)
    );
    let mut steps = Vec::new();
    query(sql)
        .bind(runs.text())
        .bind(key)
        .for_each(conn, |row| steps.push((row.get(0), row.get(1))))
        .await?;
    Ok(steps)
}

/// The points of one metric of one run at certain steps, in the order of step, timestamp, value.
pub(crate) async fn at_steps(
    conn: &mut Conn,
    run: i64,
    key: &str,
    steps: &Ids,
    limit: i64,
) -> Result<Vec<Point>, Error> {
    let sql = format!(
        "SELECT timestamp, step, value_bits FROM metrics
         WHERE run = $2 AND key = $3 AND step IN ({})
         ORDER BY step, timestamp, value_bits LIMIT $4",
        steps.select(conn.backend(), 1)
    );
    let mut points = Vec::new();
    query(sql)
        .bind(steps.text())
        .bind(run)
        .bind(key)
        .bind(limit)
        .for_each(conn, |row| {
            points.push(Point {
                timestamp: row.get(0),
                step: row.get(1),
                bits: row.get(2),
            });
        })
        .await?;
    Ok(points)
}
