//! `asgard config show`: every setting, and where it comes from.

use serde_json::{Value, json};

use super::Context;
use super::output::{Format, OutputArgs, line};
use crate::settings::{Flags, Setting};

pub(crate) fn show(context: &Context, origin: bool, output: OutputArgs) -> anyhow::Result<()> {
    let settings = context.load(&Flags::new())?.origins;
    if output.format() != Format::Table {
        let items: Vec<Value> = settings.iter().map(|s| json!(s)).collect();
        let columns = [("key", "/key"), ("value", "/value"), ("origin", "/origin")];
        return Ok(output.list(&json!(settings), &items, &columns)?);
    }
    let mut section = "";
    for setting in &settings {
        let (name, key) = setting.key.split_once('.').unwrap_or(("", &setting.key));
        if name != section {
            if !section.is_empty() {
                line("")?;
            }
            line(&format!("[{name}]"))?;
            section = name;
        }
        line(&shown(key, setting, origin))?;
    }
    Ok(())
}

/// A setting as `asgard.toml` would have it; TOML has no null, so an unset one is a comment.
fn shown(key: &str, setting: &Setting, origin: bool) -> String {
    let text = match &setting.value {
        Value::Null => format!("# {key} ="),
        value => format!("{key} = {value}"),
    };
    if origin {
        format!("{text}  # {}", setting.origin)
    } else {
        text
    }
}
