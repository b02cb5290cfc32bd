//! Points that requests log to runs, those of many requests in one statement.

use std::collections::{BTreeMap, HashSet};

use db::{Conn, Error, Value, query};

use crate::gather::Gather;
use crate::metric::{self, Metric};
use crate::resend::Resends;
use crate::store::metrics::{FORWARD, Lists};

/// Points that one request logs to a run.
pub(crate) struct RunPoints {
    pub(crate) run_id: String,
    /// The job that must have made the run.
    pub(crate) job_id: Option<String>,
    pub(crate) points: Vec<Metric>,
    /// Whether points are sent again, which is one and the same for all that go together.
    pub(crate) resends: Resends,
}

/// A run by its id, and the job that must have made it.
type Target<'p> = (&'p str, Option<&'p str>);

impl Gather for RunPoints {
    /// Whether there is such a run, and it is active.
    type Outcome = bool;

    fn key(&self) -> &str {
        &self.run_id
    }

    fn rows(&self) -> usize {
        self.points.len()
    }

    async fn write(conn: &mut Conn, together: &[Self]) -> Result<Vec<bool>, Error> {
        let mut of_targets = BTreeMap::<Target<'_>, Vec<&Metric>>::new();
        for logged in together {
            let points = of_targets.entry(logged.target()).or_default();
            points.extend(&logged.points);
        }
        for points in of_targets.values_mut() {
            points.sort_unstable_by_key(|&point| identity(point));
            points.dedup_by_key(|&mut point| identity(point));
        }
        let Some(RunPoints { resends, .. }) = together.first() else {
            return Ok(Vec::new());
        };
        let found = log(conn, &of_targets, resends).await?;
        let targets = (1_i64..).zip(of_targets.keys());
        let logged = targets.filter(|(place, _)| found.contains(place));
        let logged: HashSet<&Target<'_>> = logged.map(|(_, target)| target).collect();
        let is_logged = |points: &Self| logged.contains(&points.target());
        Ok(together.iter().map(is_logged).collect())
    }
}

impl RunPoints {
    fn target(&self) -> Target<'_> {
        (&self.run_id, self.job_id.as_deref())
    }
}

/// What is done about points that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// They are refused, and with them all that is written.
    Refused,
    /// They are left alone.
    Kept,
}

/// Logs to those that are there, and tells which, counted from 1. The same run may be named with and
/// without its job.
///
/// To look for each point first takes PostgreSQL longer than to add it, and hardly ever is one there: a
/// request that is sent again. While there are such, a lot is not tried in vain: what it wrote would
/// be left to the vacuum.
async fn log(
    conn: &mut Conn,
    of_targets: &BTreeMap<Target<'_>, Vec<&Metric>>,
    resends: &Resends,
) -> Result<HashSet<i64>, Error> {
    if resends.go_on() {
        return log_points(conn, of_targets, Known::Kept).await;
    }
    match log_points(conn, of_targets, Known::Refused).await {
        Err(error) if error.is_unique_violation() => {
            resends.note();
            log_points(conn, of_targets, Known::Kept).await
        }
        logged => logged,
    }
}

/// Rows go in the order of their key, as in [`insert`](super::metrics::insert).
async fn log_points(
    conn: &mut Conn,
    of_targets: &BTreeMap<Target<'_>, Vec<&Metric>>,
    known: Known,
) -> Result<HashSet<i64>, Error> {
    let (mut all, mut latest) = (Lists::default(), Lists::default());
    for (place, points) in (1_i64..).zip(of_targets.values()) {
        all.extend(place, points.iter().copied());
        latest.extend(place, metric::latest(points.iter().copied()));
    }
    let runs = of_targets.keys().map(|(run_id, _)| (*run_id).to_owned());
    let jobs = of_targets
        .keys()
        .map(|(_, job_id)| job_id.unwrap_or_default().to_owned());
    let of_any_job = of_targets.keys().map(|(_, job_id)| job_id.is_none());
    let rows = query(statement(known))
        .bind(runs.collect::<Vec<String>>())
        .bind(jobs.collect::<Vec<String>>())
        .bind_all([Value::from(all.places), all.keys.into()])
        .bind_all([all.timestamps, all.steps, all.bits])
        .bind_all([Value::from(latest.places), latest.keys.into()])
        .bind_all([latest.timestamps, latest.steps])
        .bind_all([Value::from(latest.values), latest.are_nan.into()])
        .bind(latest.bits)
        .bind(of_any_job.collect::<Vec<bool>>())
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What tells a point of a run from the others.
fn identity(point: &Metric) -> (&str, i64, i64, i64) {
    (&point.key, point.timestamp, point.step, point.value_bits())
}

fn statement(known: Known) -> String {
    let on_conflict = match known {
        Known::Refused => "",
        Known::Kept => "ON CONFLICT DO NOTHING",
    };
    format!(
        "WITH target AS (
             SELECT w.place, r.run
             FROM UNNEST($1::TEXT[], $2::TEXT[], $15::BOOLEAN[])
                 WITH ORDINALITY w(run_id, job_id, of_any_job, place)
             CROSS JOIN LATERAL (SELECT * FROM runs WHERE run_id = w.run_id OFFSET 0) r
             WHERE r.lifecycle_stage = 'active' AND (w.of_any_job OR r.job_id = w.job_id)
         ), logged AS (
             INSERT INTO metrics (run, key, timestamp, step, value_bits)
             SELECT t.run, p.key, p.timestamp, p.step, p.bits
             FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[])
                 p(place, key, timestamp, step, bits) JOIN target t ON t.place = p.place
             ORDER BY t.run, p.key COLLATE \"C\", p.timestamp, p.step, p.bits
             {on_conflict}
         ), moved AS (
             INSERT INTO latest_metrics (run, key, timestamp, step, value, is_nan, value_bits)
             SELECT DISTINCT ON (t.run, l.key COLLATE \"C\")
                 t.run, l.key, l.timestamp, l.step, l.value, l.is_nan, l.bits
             FROM UNNEST($8::BIGINT[], $9::TEXT[], $10::BIGINT[], $11::BIGINT[], $12::FLOAT8[],
                 $13::BOOLEAN[], $14::BIGINT[])
                 l(place, key, timestamp, step, value, is_nan, bits) JOIN target t ON t.place = l.place
             ORDER BY t.run, l.key COLLATE \"C\", l.step DESC, l.timestamp DESC, l.value DESC
             {FORWARD}
         )
         SELECT place FROM target"
    )
}
