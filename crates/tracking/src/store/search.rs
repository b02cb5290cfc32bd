//! Searches for runs and experiments.

use db::{Backend, Conn, Error};

use crate::experiment::Experiment;
use crate::filter::{Op, Operand};
use crate::run::Run;
use crate::search::experiments as experiment_search;
use crate::search::runs::{
    Condition, DatasetPart, Plan, SortKey, Text, TextAttribute, TimeAttribute, View,
};
use crate::store::search_access::{self, Access};
use crate::store::statement::Statement;
use crate::store::{experiments, runs};

/// The runs of a page, and one more if there is one.
pub(crate) async fn runs(conn: &mut Conn, plan: &Plan) -> Result<Vec<Run>, Error> {
    match search_access::choose(conn, plan).await? {
        Access::Along { few } => sorted(conn, plan, None, few).await,
        Access::From(place) => sorted(conn, plan, Some(place), true).await,
        Access::Ranked => {
            let found = ranked(conn, plan).await?;
            if found.len() as i64 == plan.page.lookahead() {
                return Ok(found);
            }
            // Runs with NaN and runs without the metric come behind.
            sorted(conn, plan, None, false).await
        }
    }
}

/// The runs of the experiments, or those of them that the condition at a place leads to, in their order.
/// `few` says that they are few, so that each is looked at by itself.
async fn sorted(
    conn: &mut Conn,
    plan: &Plan,
    from: Option<usize>,
    few: bool,
) -> Result<Vec<Run>, Error> {
    let start = format!("SELECT {} FROM ", runs::COLUMNS);
    let mut sql = Statement::new(conn.backend(), &start);
    match from {
        None => sql.push("runs r"),
        Some(place) => push_few(&mut sql, &plan.conditions[place]),
    }
    push_sorted_by(&mut sql, &plan.order, few);
    sql.push(" WHERE ");
    push_scope_and_conditions(&mut sql, plan, from, few);
    push_order(&mut sql, &plan.order);
    push_page(&mut sql, plan);
    read(sql, conn).await
}

/// Adds the runs that a condition leads to.
fn push_few(sql: &mut Statement, condition: &Condition) {
    if sql.backend() == Backend::Postgres {
        // A list is looked up one by one, while a join may be done the other way round.
        sql.push("(SELECT * FROM runs WHERE run = ANY(ARRAY(");
        search_access::push_matching(sql, condition);
        return sql.push(&format!(")){}) r", sql.fence()));
    }
    sql.push("(");
    search_access::push_matching(sql, condition);
    sql.push(") few ");
    push_run_of(sql, "few");
}

/// Adds the run of each row of a table before it. PostgreSQL gets to it by its number alone: without
/// statistics an index that leads to all runs of the experiment seems as good.
fn push_run_of(sql: &mut Statement, table: &str) {
    sql.push(&match sql.backend() {
        // It reads the tables of a CROSS JOIN in the order in which they stand.
        Backend::Sqlite => format!("CROSS JOIN runs r ON r.run = {table}.run"),
        Backend::Postgres => format!(
            "CROSS JOIN LATERAL (SELECT * FROM runs WHERE run = {table}.run{}) r",
            sql.fence()
        ),
    });
}

/// Adds what runs are sorted by, if it is in another table; each of few by itself.
fn push_sorted_by(sql: &mut Statement, order: &[(SortKey, bool)], few: bool) {
    for (index, (key, _)) in order.iter().enumerate() {
        let (table, key) = match key {
            SortKey::Metric(key) => ("latest_metrics", key),
            SortKey::Param(key) => ("params", key),
            SortKey::Tag(key) => ("tags", key),
            SortKey::Text(_) | SortKey::Time(_) => continue,
        };
        let place = sql.bind(key);
        sql.push(&match sql.backend() {
            Backend::Postgres if few => format!(
                " LEFT JOIN LATERAL (SELECT * FROM {table} o WHERE o.run = r.run AND o.key = {place}{}) o{index} ON TRUE",
                sql.fence()
            ),
            _ => format!(
                " LEFT JOIN {table} o{index} ON o{index}.run = r.run AND o{index}.key = {place}"
            ),
        });
    }
}

/// The runs whose metric has a value, in its order. Each half gives what the page may need of it.
async fn ranked(conn: &mut Conn, plan: &Plan) -> Result<Vec<Run>, Error> {
    let [(SortKey::Metric(key), descending)] = plan.order.as_slice() else {
        unreachable!("only an order by one metric is ranked");
    };
    let direction = direction(*descending);
    let start = format!("SELECT {} FROM (", runs::COLUMNS);
    let mut sql = Statement::new(conn.backend(), &start);
    let key = sql.bind(key);
    let needed = plan.page.offset.saturating_add(plan.page.lookahead());
    let needed = sql.bind(needed);
    for half in [Half::Settled, Half::Running] {
        sql.push(if half == Half::Settled {
            "SELECT"
        } else {
            " UNION ALL SELECT"
        });
        sql.push(" * FROM (");
        push_half(&mut sql, plan, half, &key, direction);
        sql.push(&format!(" LIMIT {needed}) {}", half.alias()));
    }
    sql.push(") o ");
    push_run_of(&mut sql, "o");
    sql.push(&format!(
        " ORDER BY o.value {direction}, r.start_time DESC, r.run_id"
    ));
    push_page(&mut sql, plan);
    read(sql, conn).await
}

/// Which of the values of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Those of runs that ended, which an index has in their order.
    Settled,
    /// Those of running ones.
    Running,
}

impl Half {
    fn alias(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Running => "running",
        }
    }
}

/// Adds the runs of one half with their value, in its order.
fn push_half(sql: &mut Statement, plan: &Plan, half: Half, key: &str, direction: &str) {
    let (value, settled) = match half {
        Half::Settled => ("settled_value", "IS NOT NULL"),
        Half::Running => ("value", "IS NULL"),
    };
    sql.push(&format!("SELECT m.run, m.{value} AS value FROM "));
    let of_key = format!("key = {key} AND is_nan = FALSE AND settled_value {settled}");
    let sorted_first = half == Half::Running && sql.backend() == Backend::Postgres;
    if sorted_first {
        // Before their runs are looked up, which ends when there are enough.
        let fence = sql.fence();
        sql.push(&format!(
            "(SELECT run, value FROM latest_metrics WHERE {of_key} ORDER BY value {direction}{fence}) m "
        ));
    } else {
        sql.push("latest_metrics m ");
    }
    push_run_of(sql, "m");
    sql.push(" WHERE ");
    if !sorted_first {
        sql.push(&format!("{of_key} AND "));
    }
    push_scope_and_conditions(sql, plan, None, true);
    sql.push(&format!(
        " ORDER BY m.{value} {direction}, r.start_time DESC, r.run_id"
    ));
}

async fn read(sql: Statement, conn: &mut Conn) -> Result<Vec<Run>, Error> {
    let rows = sql.fetch_all(conn).await?;
    Ok(rows.iter().map(runs::read).collect())
}

/// Adds the scope and the conditions, but for the one at the place that led to the runs. `few` says
/// that few runs are looked at, so that each condition is for each of them: of many, PostgreSQL may
/// go the other way round, from what fulfils a condition.
fn push_scope_and_conditions(sql: &mut Statement, plan: &Plan, from: Option<usize>, few: bool) {
    search_access::push_scope(sql, plan);
    for (place, condition) in plan.conditions.iter().enumerate() {
        if Some(place) != from {
            sql.push(" AND ");
            push_condition(sql, condition, few);
        }
    }
}

fn push_page(sql: &mut Statement, plan: &Plan) {
    let limit = sql.bind(plan.page.lookahead());
    let offset = sql.bind(plan.page.offset);
    sql.push(&format!(" LIMIT {limit} OFFSET {offset}"));
}

fn push_condition(sql: &mut Statement, condition: &Condition, few: bool) {
    match condition {
        Condition::Metric {
            key,
            operator,
            value,
        } => {
            let key = sql.bind(key);
            let value = sql.bind(*value);
            // NaN is stored as 0: it is unequal to everything, and nothing else.
            let compared = match operator {
                Op::Ne => format!("(m.is_nan OR m.value != {value})"),
                _ => format!("NOT m.is_nan AND m.value {} {value}", operator.as_str()),
            };
            sql.push(&format!(
                "EXISTS (SELECT 1 FROM latest_metrics m WHERE m.run = r.run AND m.key = {key} AND {compared}{})",
                fence(sql, few)
            ));
        }
        Condition::Param { key, is } => {
            push_pair(sql, "params p WHERE p.run = r.run", key, is, few)
        }
        Condition::Tag { key, is } => push_pair(sql, "tags p WHERE p.run = r.run", key, is, few),
        Condition::TextAttribute { attribute, is } => {
            sql.push_text(text_column(*attribute), is.operator, &is.value);
        }
        Condition::TimeAttribute {
            attribute,
            operator,
            value,
        } => sql.push_number(time_column(*attribute), *operator, *value),
        Condition::Dataset { part, is } => push_dataset(sql, *part, is, few),
    }
}

fn fence(sql: &Statement, few: bool) -> &'static str {
    if few { sql.fence() } else { "" }
}

/// `pairs` names the table of keys and values as `p`, with what ties it to the row.
fn push_pair(sql: &mut Statement, pairs: &str, key: &str, is: &Text, few: bool) {
    let not = if is.operator == Op::IsNull {
        "NOT "
    } else {
        ""
    };
    let key = sql.bind(key);
    sql.push(&format!(
        "{not}EXISTS (SELECT 1 FROM {pairs} AND p.key = {key}"
    ));
    if is.value != Operand::Nothing {
        sql.push(" AND ");
        sql.push_text("p.value", is.operator, &is.value);
    }
    sql.push(fence(sql, few));
    sql.push(")");
}

fn push_dataset(sql: &mut Statement, part: DatasetPart, is: &Text, few: bool) {
    let column = match part {
        DatasetPart::Context => {
            sql.push(
                "EXISTS (SELECT 1 FROM run_dataset_tags d WHERE d.run = r.run AND d.key = 'mlflow.data.context' AND ",
            );
            "d.value"
        }
        DatasetPart::Name | DatasetPart::Digest => {
            sql.push("EXISTS (SELECT 1 FROM run_datasets i ");
            sql.push(match sql.backend() {
                Backend::Postgres if few => {
                    "CROSS JOIN LATERAL (SELECT * FROM datasets WHERE dataset_id = i.dataset_id OFFSET 0) d"
                }
                _ => "JOIN datasets d ON d.dataset_id = i.dataset_id",
            });
            sql.push(" WHERE i.run = r.run AND ");
            if part == DatasetPart::Name {
                "d.name"
            } else {
                "d.digest"
            }
        }
    };
    sql.push_text(column, is.operator, &is.value);
    sql.push(fence(sql, few));
    sql.push(")");
}

/// Values first, then NaN, then runs that have none, in both directions.
fn push_order(sql: &mut Statement, order: &[(SortKey, bool)]) {
    sql.push(" ORDER BY ");
    for (index, (key, descending)) in order.iter().enumerate() {
        let direction = direction(*descending);
        let clause = match key {
            SortKey::Metric(_) => {
                format!("o{index}.run IS NULL, o{index}.is_nan, o{index}.value {direction}, ")
            }
            SortKey::Param(_) | SortKey::Tag(_) => {
                format!("o{index}.run IS NULL, o{index}.value {direction}, ")
            }
            SortKey::Text(attribute) => format!("{} {direction}, ", text_column(*attribute)),
            SortKey::Time(TimeAttribute::Start) => format!("r.start_time {direction}, "),
            SortKey::Time(TimeAttribute::End) => {
                format!("r.end_time IS NULL, r.end_time {direction}, ")
            }
        };
        sql.push(&clause);
    }
    sql.push("r.start_time DESC, r.run_id");
}

fn direction(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}

fn text_column(attribute: TextAttribute) -> &'static str {
    match attribute {
        TextAttribute::RunId => "r.run_id",
        TextAttribute::Name => "r.name",
        TextAttribute::Status => "r.status",
        TextAttribute::ArtifactUri => "r.artifact_uri",
        TextAttribute::UserId => "r.user_id",
        TextAttribute::Lifecycle => "r.lifecycle_stage",
        TextAttribute::Experiment => "r.experiment_id",
    }
}

fn time_column(attribute: TimeAttribute) -> &'static str {
    match attribute {
        TimeAttribute::Start => "r.start_time",
        TimeAttribute::End => "r.end_time",
    }
}

/// The experiments of a page, and one more if there is one; without their tags.
pub(crate) async fn experiments(
    conn: &mut Conn,
    plan: &experiment_search::Plan,
) -> Result<Vec<Experiment>, Error> {
    use experiment_search::Condition;
    let start = format!("SELECT {} FROM experiments e WHERE ", experiments::COLUMNS);
    let mut sql = Statement::new(conn.backend(), &start);
    sql.push(match plan.view {
        View::Active => "e.lifecycle_stage = 'active'",
        View::Deleted => "e.lifecycle_stage = 'deleted'",
        View::All => "1 = 1",
    });
    for condition in &plan.conditions {
        sql.push(" AND ");
        match condition {
            Condition::Name(is) => sql.push_text("e.name", is.operator, &is.value),
            Condition::Time {
                column,
                operator,
                value,
            } => sql.push_number(experiment_column(*column), *operator, *value),
            Condition::Id(is) => {
                sql.push_text("CAST(e.experiment_id AS TEXT)", is.operator, &is.value);
            }
            Condition::Tag { key, is } => {
                let tags = "experiment_tags p WHERE p.experiment_id = e.experiment_id";
                push_pair(&mut sql, tags, key, is, false);
            }
        }
    }
    sql.push(" ORDER BY ");
    for (column, descending) in &plan.order {
        let direction = direction(*descending);
        sql.push(&format!("{} {direction}, ", experiment_column(*column)));
    }
    let limit = sql.bind(plan.page.lookahead());
    let offset = sql.bind(plan.page.offset);
    sql.push(&format!(
        "e.experiment_id DESC LIMIT {limit} OFFSET {offset}"
    ));
    let rows = sql.fetch_all(conn).await?;
    Ok(rows.iter().map(experiments::read).collect())
}

fn experiment_column(column: experiment_search::Column) -> &'static str {
    use experiment_search::Column;
    match column {
        Column::Id => "e.experiment_id",
        Column::Name => "e.name",
        Column::Creation => "e.creation_time",
        Column::LastUpdate => "e.last_update_time",
        Column::Lifecycle => "e.lifecycle_stage",
    }
}
