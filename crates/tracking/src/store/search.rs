//! Searches for runs and experiments.

use db::{Conn, Error};

use crate::experiment::Experiment;
use crate::filter::{Op, Operand};
use crate::run::Run;
use crate::search::experiments as experiment_search;
use crate::search::runs::{
    Condition, DatasetPart, Plan, SortKey, Text, TextAttribute, TimeAttribute, View,
};
use crate::store::statement::Statement;
use crate::store::{Ids, experiments, runs};

/// Tags no longer than this are in the index of values; longer ones are found by their run.
const INDEXED_TAG_CHARS: usize = 64;

/// The runs of a page, and one more if there is one.
pub(crate) async fn runs(conn: &mut Conn, plan: &Plan) -> Result<Vec<Run>, Error> {
    let mut sql = Statement::new(
        conn.backend(),
        &format!("SELECT {} FROM runs r", runs::COLUMNS),
    );
    for (index, (key, _)) in plan.order.iter().enumerate() {
        let (table, key) = match key {
            SortKey::Metric(key) => ("latest_metrics", key),
            SortKey::Param(key) => ("params", key),
            SortKey::Tag(key) => ("tags", key),
            SortKey::Text(_) | SortKey::Time(_) => continue,
        };
        let place = sql.bind(key);
        sql.push(&format!(
            " LEFT JOIN {table} o{index} ON o{index}.run = r.run AND o{index}.key = {place}"
        ));
    }
    push_experiments(&mut sql, &plan.experiments);
    match plan.view {
        View::Active => sql.push(" AND r.lifecycle_stage = 'active'"),
        View::Deleted => sql.push(" AND r.lifecycle_stage = 'deleted'"),
        View::All => {}
    }
    for condition in &plan.conditions {
        sql.push(" AND ");
        push_condition(&mut sql, condition);
    }
    push_order(&mut sql, &plan.order);
    let limit = sql.bind(plan.page.lookahead());
    let offset = sql.bind(plan.page.offset);
    sql.push(&format!(" LIMIT {limit} OFFSET {offset}"));
    let rows = sql.fetch_all(conn).await?;
    Ok(rows.iter().map(runs::read).collect())
}

/// A single experiment is compared for equality, so that its runs come sorted out of the index.
fn push_experiments(sql: &mut Statement, ids: &[i64]) {
    if let [id] = ids {
        let place = sql.bind(*id);
        sql.push(&format!(" WHERE r.experiment_id = {place}"));
        return;
    }
    let list = Ids::of(ids.iter().copied());
    let place = sql.bind(list.text());
    let number = place[1..].parse().expect("a placeholder is $ and a number");
    let among = list.select(sql.backend(), number);
    sql.push(&format!(" WHERE r.experiment_id IN ({among})"));
}

fn push_condition(sql: &mut Statement, condition: &Condition) {
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
                "EXISTS (SELECT 1 FROM latest_metrics m WHERE m.run = r.run AND m.key = {key} AND {compared})"
            ));
        }
        Condition::Param { key, is } => push_pair(sql, "params", key, is),
        Condition::Tag { key, is } => push_tag(sql, key, is),
        Condition::TextAttribute { attribute, is } => {
            sql.push_text(text_column(*attribute), is.operator, &is.value);
        }
        Condition::TimeAttribute {
            attribute,
            operator,
            value,
        } => sql.push_number(time_column(*attribute), *operator, *value),
        Condition::Dataset { part, is } => push_dataset(sql, *part, is),
    }
}

fn push_pair(sql: &mut Statement, table: &str, key: &str, is: &Text) {
    let not = if is.operator == Op::IsNull {
        "NOT "
    } else {
        ""
    };
    let key = sql.bind(key);
    sql.push(&format!(
        "{not}EXISTS (SELECT 1 FROM {table} p WHERE p.run = r.run AND p.key = {key}"
    ));
    if is.value != Operand::Nothing {
        sql.push(" AND ");
        sql.push_text("p.value", is.operator, &is.value);
    }
    sql.push(")");
}

/// The tag that is searched for most is `mlflow.parentRunId = X`: few of very many runs have it.
fn push_tag(sql: &mut Statement, key: &str, is: &Text) {
    match (is.operator, &is.value) {
        (Op::Eq, Operand::Text(value)) if value.chars().count() <= INDEXED_TAG_CHARS => {
            let key = sql.bind(key);
            let value = sql.bind(value);
            sql.push(&format!(
                "r.run IN (SELECT t.run FROM tags t WHERE t.key = {key} AND t.value = {value} AND length(t.value) <= {INDEXED_TAG_CHARS})"
            ));
        }
        _ => push_pair(sql, "tags", key, is),
    }
}

fn push_dataset(sql: &mut Statement, part: DatasetPart, is: &Text) {
    let column = match part {
        DatasetPart::Context => {
            sql.push(
                "EXISTS (SELECT 1 FROM run_dataset_tags d WHERE d.run = r.run AND d.key = 'mlflow.data.context' AND ",
            );
            "d.value"
        }
        DatasetPart::Name | DatasetPart::Digest => {
            sql.push(
                "EXISTS (SELECT 1 FROM run_datasets i JOIN datasets d ON d.dataset_id = i.dataset_id WHERE i.run = r.run AND ",
            );
            if part == DatasetPart::Name {
                "d.name"
            } else {
                "d.digest"
            }
        }
    };
    sql.push_text(column, is.operator, &is.value);
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
            Condition::Tag { key, is } => {
                let key = sql.bind(key);
                sql.push(&format!(
                    "EXISTS (SELECT 1 FROM experiment_tags t WHERE t.experiment_id = e.experiment_id AND t.key = {key} AND "
                ));
                sql.push_text("t.value", is.operator, &is.value);
                sql.push(")");
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
