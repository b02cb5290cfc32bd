//! How a search gets to its runs: along the experiment, from the few that one condition leaves, or
//! in the order of a metric.
//!
//! Neither database knows what the tables will hold when a statement is prepared, so the searches
//! look first: a bounded count costs well under a millisecond.

use db::{Conn, Error};

use crate::filter::{Op, Operand};
use crate::search::runs::{Condition, Plan, SortKey, Text, View};
use crate::store::Ids;
use crate::store::statement::Statement;

/// Runs that are looked at one by one as quickly as they are found by an index.
const FEW: i64 = 1_000;

/// The same where the other way may be to sort all runs that go on: by a metric.
const FEW_TO_RANK: i64 = 2_000;

/// More runs than these are worth the order of a metric, whoever else has it. Counting them takes a
/// millisecond.
const MANY: i64 = 10_000;

/// Fewer are worth it where their experiments have at least one of so many values of the metric: its
/// order leads past those of all other experiments.
const SHARE: i64 = 4;

/// Tags and params no longer than this are in the indexes of values.
const INDEXED_CHARS: usize = 64;

/// How to get to the runs of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All runs of the experiments, newest first.
    Along {
        /// Whether they are so few that each may be looked at by itself.
        few: bool,
    },
    /// The few runs that fulfil the condition at this place.
    From(usize),
    /// In the order of the metric that the runs are sorted by.
    Ranked,
}

pub(super) async fn choose(conn: &mut Conn, plan: &Plan) -> Result<Access, Error> {
    let ranked_by = match plan.order.as_slice() {
        [(SortKey::Metric(key), _)] => Some(key),
        _ => None,
    };
    let conditions = plan.conditions.iter().enumerate();
    let indexed: Vec<_> = conditions.filter(|(_, is)| is_indexed(is)).collect();
    if indexed.is_empty() && ranked_by.is_none() {
        return Ok(Access::Along { few: false });
    }
    let (few, many) = match ranked_by {
        Some(_) => (FEW_TO_RANK, MANY),
        None => (FEW, FEW),
    };
    let (runs, matching) = count(conn, plan, &indexed, few, many).await?;
    if runs <= FEW {
        return Ok(Access::Along { few: true });
    }
    let counts = matching.into_iter().zip(&indexed);
    let fewest = counts
        .filter(|(count, _)| *count <= few)
        .min_by_key(|(count, _)| *count);
    if let Some((_, (place, _))) = fewest {
        return Ok(Access::From(*place));
    }
    let Some(key) = ranked_by else {
        return Ok(Access::Along { few: false });
    };
    let most = runs * SHARE;
    if runs > MANY || count_values(conn, key, most).await? <= most {
        return Ok(Access::Ranked);
    }
    Ok(Access::Along { few: true })
}

/// Whether an index finds what fulfils the condition.
fn is_indexed(condition: &Condition) -> bool {
    match condition {
        Condition::Metric { operator, .. } => *operator != Op::Ne,
        Condition::Param { is, .. } | Condition::Tag { is, .. } => match is {
            Text {
                operator: Op::Eq,
                value: Operand::Text(value),
            } => value.chars().count() <= INDEXED_CHARS,
            _ => false,
        },
        _ => false,
    }
}

/// Adds the numbers of the runs that fulfil an indexed condition, whatever their experiment.
pub(super) fn push_matching(sql: &mut Statement, condition: &Condition) {
    let (table, key, is) = match condition {
        Condition::Metric {
            key,
            operator,
            value,
        } => {
            let key = sql.bind(key);
            let value = sql.bind(*value);
            let operator = operator.as_str();
            let of_key =
                format!("SELECT run FROM latest_metrics WHERE key = {key} AND is_nan = FALSE");
            sql.push(&format!(
                "{of_key} AND settled_value {operator} {value}
                 UNION ALL {of_key} AND settled_value IS NULL AND value {operator} {value}"
            ));
            return;
        }
        Condition::Param { key, is } => ("params", key, is),
        Condition::Tag { key, is } => ("tags", key, is),
        _ => unreachable!("only conditions with an index lead to runs"),
    };
    let key = sql.bind(key);
    sql.push(&format!(
        "SELECT run FROM {table} WHERE key = {key} AND length(value) <= {INDEXED_CHARS} AND "
    ));
    sql.push_text("value", is.operator, &is.value);
}

/// Adds which experiments and lifecycle stages the search looks at.
pub(super) fn push_scope(sql: &mut Statement, plan: &Plan) {
    push_experiments(sql, &plan.experiments);
    match plan.view {
        View::Active => sql.push(" AND r.lifecycle_stage = 'active'"),
        View::Deleted => sql.push(" AND r.lifecycle_stage = 'deleted'"),
        View::All => {}
    }
}

/// A single experiment is compared for equality, so that its runs come sorted out of the index.
fn push_experiments(sql: &mut Statement, ids: &[i64]) {
    if let [id] = ids {
        let place = sql.bind(*id);
        sql.push(&format!("r.experiment_id = {place}"));
        return;
    }
    let list = Ids::of(ids.iter().copied());
    let place = sql.bind(list.text());
    let number = place[1..].parse().expect("a placeholder is $ and a number");
    let among = list.select(sql.backend(), number);
    sql.push(&format!("r.experiment_id IN ({among})"));
}

/// How many runs there are to look at, more than `many` are not counted; and if there are more than
/// [`FEW`], how many fulfil each condition, more than `few` are not counted. One statement, as each
/// is a round trip; what stands in a CASE is only looked at when it is needed.
async fn count(
    conn: &mut Conn,
    plan: &Plan,
    conditions: &[(usize, &Condition)],
    few: i64,
    many: i64,
) -> Result<(i64, Vec<i64>), Error> {
    let mut sql = Statement::new(conn.backend(), "SELECT scope.runs");
    for (_, condition) in conditions {
        sql.push(&format!(", CASE WHEN scope.runs > {FEW} THEN (SELECT "));
        push_count(&mut sql, few, |sql| push_matching(sql, condition));
        sql.push(") ELSE 0 END");
    }
    sql.push(" FROM (SELECT ");
    push_count(&mut sql, many, |sql| {
        sql.push("SELECT 1 FROM runs r WHERE ");
        push_scope(sql, plan);
    });
    sql.push(") scope");
    let row = sql.fetch_one(conn).await?;
    let matching = (1..=conditions.len()).map(|column| row.get(column));
    Ok((row.get(0), matching.collect()))
}

/// How many runs of any experiment have the metric; more than `most` are not counted.
async fn count_values(conn: &mut Conn, key: &str, most: i64) -> Result<i64, Error> {
    let mut sql = Statement::new(conn.backend(), "SELECT ");
    push_count(&mut sql, most, |sql| {
        let key = sql.bind(key);
        let of_key = format!("SELECT run FROM latest_metrics WHERE key = {key} AND settled_value");
        sql.push(&format!("{of_key} IS NOT NULL UNION ALL {of_key} IS NULL"));
    });
    Ok(sql.fetch_one(conn).await?.get(0))
}

/// Adds how many rows there are; more than `few` are not counted.
fn push_count(sql: &mut Statement, few: i64, push: impl FnOnce(&mut Statement)) {
    sql.push("COUNT(*) AS runs FROM (");
    push(sql);
    let most = sql.bind(few + 1);
    sql.push(&format!(" LIMIT {most}) counted"));
}
