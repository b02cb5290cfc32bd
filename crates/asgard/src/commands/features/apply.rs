//! `asgard features apply`: the views of a file, created or changed, and told what changed.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{absent, view_path};
use crate::client::Client;
use crate::commands::output::{Format, OutputArgs, message};
use crate::failure::{Exit, Failure};

/// Applies all views of a file; the first is not touched before all were checked.
pub(super) async fn run(
    client: &Client,
    file: &Path,
    dry_run: bool,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let views = views_of(file)?;
    let mut answers = put_all(client, file, &views, true).await?;
    if !dry_run {
        answers = put_all(client, file, &views, false).await?;
    }
    if !output.quiet {
        for answer in &answers {
            let text = answer["message"].as_str().unwrap_or_default();
            let done = answer["outcome"] != "unchanged" && !dry_run;
            message(&format!("{} {text}", if done { "✓" } else { "·" }));
            let changes = answer["changes"].as_array().into_iter().flatten();
            for change in changes.flat_map(told) {
                message(&format!("    {change}"));
            }
        }
    }
    if output.format() == Format::Table {
        return Ok(());
    }
    let columns = [("name", "/name"), ("outcome", "/outcome")];
    Ok(output.list(&json!(answers), &answers, &columns)?)
}

async fn put_all(
    client: &Client,
    file: &Path,
    views: &[Value],
    dry_run: bool,
) -> anyhow::Result<Vec<Value>> {
    let mut answers = Vec::new();
    for view in views {
        let Some(name) = view["name"].as_str().filter(|name| !name.is_empty()) else {
            let message = format!("a feature view in {} has no name", file.display());
            return Err(Failure::new(Exit::Usage, message).into());
        };
        let query = [("dry_run", dry_run.to_string())];
        answers.push(client.put(&view_path(name), &query, view).await?);
    }
    Ok(answers)
}

/// A change in words: what was taken away and added of a list, else both values.
fn told(change: &Value) -> Vec<String> {
    let field = change["field"].as_str().unwrap_or_default();
    let (before, after) = (&change["before"], &change["after"]);
    let (Some(old), Some(new)) = (before.as_array(), after.as_array()) else {
        return vec![format!("{field}: {} → {}", plain(before), plain(after))];
    };
    let gone = old.iter().filter(|item| !new.contains(item));
    let come = new.iter().filter(|item| !old.contains(item));
    let mut told: Vec<String> = gone
        .map(|item| format!("- {field}: {}", plain(item)))
        .collect();
    told.extend(come.map(|item| format!("+ {field}: {}", plain(item))));
    if told.is_empty() {
        told.push(format!("{field}: in another order"));
    }
    told
}

/// A value as a person writes it; a feature by name and type.
fn plain(value: &Value) -> String {
    match (value, value["name"].as_str(), value["dtype"].as_str()) {
        (_, Some(name), Some(dtype)) => format!("{name} {dtype}"),
        (Value::String(text), ..) if !text.is_empty() => text.clone(),
        (Value::Null, ..) => "none".to_owned(),
        _ => value.to_string(),
    }
}

/// The views in a file: one, a list, or several YAML documents.
fn views_of(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = read(file)?;
    let mut views = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let value = Value::deserialize(document).map_err(|problem| {
            Failure::new(Exit::Usage, format!("{}: {problem}", file.display()))
        })?;
        match value {
            Value::Array(items) => views.extend(items),
            Value::Null => {}
            view => views.push(view),
        }
    }
    if views.is_empty() {
        let message = format!("{} describes no feature view", file.display());
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(views)
}

fn read(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(absent(file).into()),
        read => read.with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_what_came_and_went() {
        let feature = |name| json!({"name": name, "dtype": "int64", "column": name});
        let change = json!({"field": "features", "before": [feature("a"), feature("b")], "after": [feature("b"), feature("c")]});
        assert_eq!(
            told(&change),
            ["- features: a int64", "+ features: c int64"]
        );
        let change = json!({"field": "ttl_seconds", "before": null, "after": 60});
        assert_eq!(told(&change), ["ttl_seconds: none → 60"]);
    }

    #[test]
    fn a_file_may_hold_one_view_or_several() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("views.yaml");
        for (text, count) in [
            ("name: a\n", 1),
            ("- name: a\n- name: b\n", 2),
            ("name: a\n---\nname: b\n", 2),
            ("{\"name\": \"a\"}", 1),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(views_of(&file).unwrap().len(), count, "{text}");
        }
        std::fs::write(&file, "").unwrap();
        assert!(views_of(&file).is_err());
    }
}
