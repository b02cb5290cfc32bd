//! The tables of metrics.

use std::collections::HashMap;

use db::{Backend, Conn, Error, Query, Row, query};

use crate::metric::{self, LoggedMetric, Metric};
use crate::store::Ids;

/// Moves the latest point of a metric forward, in the index of values too if it is there.
pub(super) const FORWARD: &str = "ON CONFLICT (run, key) DO UPDATE SET
        timestamp = excluded.timestamp, step = excluded.step,
        value = excluded.value, is_nan = excluded.is_nan, value_bits = excluded.value_bits,
        settled_value = CASE WHEN latest_metrics.settled_value IS NULL THEN NULL ELSE excluded.value END
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)";

/// Adds points and moves the latest ones forward; points that are there already are left alone.
/// Tells how many were new.
///
/// Rows go in the order of their key, so that two writers of one run wait for one another instead
/// of each holding what the other needs.
pub(crate) async fn insert(
    conn: &mut Conn,
    run: i64,
    metrics: &[LoggedMetric],
) -> Result<u64, Error> {
    if metrics.is_empty() {
        return Ok(0);
    }
    let points = in_order(metrics);
    let latest = metric::latest(points.iter().copied());
    match conn.backend() {
        Backend::Sqlite => insert_each(conn, run, &points, &latest).await,
        Backend::Postgres => insert_lists(conn, run, &points, &latest).await,
    }
}

fn in_order(metrics: &[LoggedMetric]) -> Vec<&Metric> {
    let mut points: Vec<&Metric> = metrics.iter().map(|logged| &logged.metric).collect();
    points.sort_by(|a, b| {
        (&a.key, a.timestamp, a.step)
            .cmp(&(&b.key, b.timestamp, b.step))
            .then(a.stored().0.total_cmp(&b.stored().0))
    });
    points
}

async fn insert_each(
    conn: &mut Conn,
    run: i64,
    points: &[&Metric],
    latest: &[&Metric],
) -> Result<u64, Error> {
    let mut insert = query(
        "INSERT INTO metrics (run, key, timestamp, step, value_bits) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    );
    for point in points {
        insert = insert
            .bind(run)
            .bind(&point.key)
            .bind(point.timestamp)
            .bind(point.step)
            .bind(point.value_bits());
    }
    let new = insert.execute_each(conn, 5).await?;
    let mut upsert = query(format!(
        "INSERT INTO latest_metrics (run, key, timestamp, step, value, is_nan, value_bits)
         VALUES (?, ?, ?, ?, ?, ?, ?) {FORWARD}"
    ));
    for point in latest {
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
    upsert.execute_each(conn, 7).await?;
    Ok(new)
}

async fn insert_lists(
    conn: &mut Conn,
    run: i64,
    points: &[&Metric],
    latest: &[&Metric],
) -> Result<u64, Error> {
    let lists = Lists::of(points);
    let new = query(
        "INSERT INTO metrics (run, key, timestamp, step, value_bits)
         SELECT $1, * FROM UNNEST($2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[])
         ON CONFLICT DO NOTHING",
    )
    .bind(run)
    .bind(lists.keys)
    .bind(lists.timestamps)
    .bind(lists.steps)
    .bind(lists.bits)
    .execute(conn)
    .await?;
    let lists = Lists::of(latest);
    query(format!(
        "INSERT INTO latest_metrics (run, key, timestamp, step, value, is_nan, value_bits)
         SELECT $1, * FROM UNNEST($2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::FLOAT8[], $6::BOOLEAN[], $7::BIGINT[])
         {FORWARD}"
    ))
    .bind(run)
    .bind(lists.keys)
    .bind(lists.timestamps)
    .bind(lists.steps)
    .bind(lists.values)
    .bind(lists.are_nan)
    .bind(lists.bits)
    .execute(conn)
    .await?;
    Ok(new)
}

/// Points as columns.
#[derive(Default)]
pub(super) struct Lists {
    /// Which of what is written together each belongs to.
    pub(super) places: Vec<i64>,
    pub(super) keys: Vec<String>,
    pub(super) timestamps: Vec<i64>,
    pub(super) steps: Vec<i64>,
    pub(super) values: Vec<f64>,
    pub(super) are_nan: Vec<bool>,
    pub(super) bits: Vec<i64>,
}

impl Lists {
    fn of(points: &[&Metric]) -> Self {
        let mut lists = Self::default();
        lists.extend(0, points.iter().copied());
        lists
    }

    /// Adds points of what is at this place.
    pub(super) fn extend<'m>(&mut self, place: i64, points: impl IntoIterator<Item = &'m Metric>) {
        for point in points {
            let (value, is_nan) = point.stored();
            self.places.push(place);
            self.keys.push(point.key.clone());
            self.timestamps.push(point.timestamp);
            self.steps.push(point.step);
            self.values.push(value);
            self.are_nan.push(is_nan);
            self.bits.push(point.value_bits());
        }
    }
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

/// Where in a history to begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum From {
    /// After this many points.
    Offset(i64),
    /// After this point.
    Point(Point),
}

/// Some points of a history, in the order of timestamp, step and value.
pub(crate) async fn history(
    conn: &mut Conn,
    run: i64,
    key: &str,
    from: From,
    limit: i64,
) -> Result<Vec<Point>, Error> {
    let (begin, offset) = match from {
        From::Offset(offset) => (None, offset),
        From::Point(point) => (Some(point), 0),
    };
    let after = match begin {
        None => "",
        Some(_) => "AND (timestamp, step, value_bits) > ($5, $6, $7)",
    };
    let sql = format!(
        "SELECT timestamp, step, value_bits FROM metrics WHERE run = $1 AND key = $2 {after}
         ORDER BY timestamp, step, value_bits LIMIT $3 OFFSET $4"
    );
    let wanted = match conn.backend() {
        Backend::Sqlite => sql,
        // A row costs more than what it holds.
        Backend::Postgres => format!(
            "SELECT array_agg(timestamp), array_agg(step), array_agg(value_bits) FROM ({sql}) points"
        ),
    };
    let mut wanted = query(wanted).bind(run).bind(key).bind(limit).bind(offset);
    if let Some(point) = begin {
        wanted = wanted
            .bind(point.timestamp)
            .bind(point.step)
            .bind(point.bits);
    }
    match conn.backend() {
        Backend::Sqlite => rows_of_points(wanted, conn).await,
        Backend::Postgres => lists_of_points(wanted, conn).await,
    }
}

async fn rows_of_points(wanted: Query<'_>, conn: &mut Conn) -> Result<Vec<Point>, Error> {
    let mut points = Vec::new();
    let read = |row: &Row| {
        points.push(Point {
            timestamp: row.get(0),
            step: row.get(1),
            bits: row.get(2),
        });
    };
    wanted.for_each(conn, read).await?;
    Ok(points)
}

async fn lists_of_points(wanted: Query<'_>, conn: &mut Conn) -> Result<Vec<Point>, Error> {
    let row = wanted.fetch_one(conn).await?;
    let list = |column: usize| row.get::<Option<Vec<i64>>, _>(column).unwrap_or_default();
    let rest = list(1).into_iter().zip(list(2));
    let points = list(0).into_iter().zip(rest);
    let mut points: Vec<Point> = points
        .map(|(timestamp, (step, bits))| Point {
            timestamp,
            step,
            bits,
        })
        .collect();
    // The order of an aggregate is not promised; a sorted list is sorted at once.
    points.sort_by_key(|point| (point.timestamp, point.step, point.bits));
    Ok(points)
}

/// How many points one metric has at these steps, from the first to the last of them, by the
/// numbers of the runs.
pub(crate) async fn counts(
    conn: &mut Conn,
    runs: &Ids,
    key: &str,
    (first, last): (i64, i64),
) -> Result<HashMap<i64, i64>, Error> {
    let sql = format!(
        "SELECT run, COUNT(*) FROM metrics
         WHERE run IN ({}) AND key = $2 AND step BETWEEN $3 AND $4 GROUP BY run",
        runs.select(conn.backend(), 1)
    );
    let counted = query(sql).bind(runs.text()).bind(key);
    let counted = counted.bind(first).bind(last).fetch_all(conn).await?;
    Ok(counted.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The points of one metric of one run at these steps that stand at certain places, counted from 1 in
/// the order of step, timestamp and value.
pub(crate) async fn at_places(
    conn: &mut Conn,
    run: i64,
    key: &str,
    (first, last): (i64, i64),
    places: &Ids,
) -> Result<Vec<Point>, Error> {
    let sql = format!(
        "SELECT timestamp, step, value_bits FROM (
             SELECT timestamp, step, value_bits,
                    ROW_NUMBER() OVER (ORDER BY step, timestamp, value_bits) AS place
             FROM metrics WHERE run = $2 AND key = $3 AND step BETWEEN $4 AND $5
         ) p WHERE place IN ({}) ORDER BY place",
        places.select(conn.backend(), 1)
    );
    let mut points = Vec::new();
    query(sql)
        .bind(places.text())
        .bind(run)
        .bind(key)
        .bind(first)
        .bind(last)
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
