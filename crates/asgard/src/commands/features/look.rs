//! `asgard features stats|loads|usage`: what is in a view, when it was loaded, who used it.

use serde_json::Value;

use super::{Limit, view_path};
use crate::client::Client;
use crate::commands::output::{Column, Format, OutputArgs, message};

const STATS: &[Column] = &[
    ("feature", "/name"),
    ("type", "/dtype"),
    ("nulls", "/null_rate"),
    ("min", "/min"),
    ("max", "/max"),
    ("mean", "/mean"),
    ("distinct", "/distinct"),
    ("spread", "/spread"),
];

const LOADS: &[Column] = &[
    ("started", "/started_at"),
    ("mode", "/mode"),
    ("seconds", "/duration_seconds"),
    ("rows read", "/rows_read"),
    ("written", "/entities_written"),
    ("until", "/end"),
    ("snapshot", "/snapshot_id"),
    ("error", "/error"),
];

const USAGE: &[Column] = &[
    ("model", "/model_name"),
    ("version", "/model_version"),
    ("how", "/how"),
    ("when", "/when"),
    ("job", "/job_id"),
    ("snapshot", "/snapshot_id"),
    ("run", "/run_id"),
];

pub(super) async fn stats(
    client: &Client,
    name: &str,
    snapshot: Option<i64>,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let query: Vec<_> = snapshot
        .iter()
        .map(|id| ("snapshot_id", id.to_string()))
        .collect();
    let stats = client
        .get(&format!("{}/stats", view_path(name)), &query)
        .await?;
    if output.format() == Format::Table && !output.quiet {
        let text = |key: &str| stats[key].as_str().unwrap_or("never").to_owned();
        message(&format!(
            "{} rows at snapshot {}; last event {}; {} entities online",
            stats["row_count"],
            stats["snapshot_id"],
            text("last_event"),
            stats["online_entities"]
        ));
    }
    let items = stats["features"].as_array().cloned().unwrap_or_default();
    let items: Vec<Value> = items.into_iter().map(with_spread).collect();
    Ok(output.list(&stats, &items, STATS)?)
}

/// A feature with its histogram as a row of bars, or its most frequent values.
fn with_spread(mut feature: Value) -> Value {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let counts = feature["histogram"]["counts"].as_array().cloned();
    let counts: Vec<u64> = counts
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let bars: String = counts
        .iter()
        .map(|count| BARS[(count * 7).div_ceil(most) as usize])
        .collect();
    let top = feature["top_values"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let top = top.iter().take(3).map(|one| {
        let value = one["value"].as_str().unwrap_or_default();
        format!("{value} {}", one["count"])
    });
    let top: Vec<String> = top.collect();
    feature["spread"] = Value::from(if bars.is_empty() {
        top.join(", ")
    } else {
        bars
    });
    feature
}

pub(super) async fn loads(
    client: &Client,
    name: &str,
    limit: &Limit,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let path = format!("{}/materializations", view_path(name));
    let loads = client.get(&path, &limit.query()).await?;
    let items = loads["materializations"].as_array().cloned();
    Ok(output.list(&loads, &items.unwrap_or_default(), LOADS)?)
}

pub(super) async fn usage(
    client: &Client,
    name: &str,
    limit: &Limit,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let path = format!("{}/usage", view_path(name));
    let usage = client.get(&path, &limit.query()).await?;
    let jobs = usage["jobs"].as_array().into_iter().flatten();
    let jobs = jobs.map(|job| used(job, "job read it", "read_at"));
    let models = usage["models"].as_array().into_iter().flatten();
    let models = models.map(|model| used(model, "model predicts with it", "last_used_at"));
    let items: Vec<Value> = jobs.chain(models).collect();
    Ok(output.list(&usage, &items, USAGE)?)
}

fn used(one: &Value, how: &str, when: &str) -> Value {
    let mut row = one.clone();
    row["when"] = one[when].clone();
    row["how"] = Value::from(how);
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_histogram_is_a_row_of_bars() {
        let feature = json!({"histogram": {"counts": [0, 1, 7, 14]}, "top_values": []});
        assert_eq!(with_spread(feature)["spread"], "▁▂▅█");
        let words = json!({"histogram": null, "top_values": [{"value": "gold", "count": 2}]});
        assert_eq!(with_spread(words)["spread"], "gold 2");
    }
}
