//! What commands print: tables for people, documents for programs.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use serde_json::Value;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
    Csv,
    /// Only the name or id of each thing.
    Name,
}

#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON document
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// Print one JSON document a line
    #[arg(long, global = true, conflicts_with_all = ["output", "json"])]
    jsonl: bool,
    /// How to print
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Print data only, no messages
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// A column of a table: its title and where the value is in each item.
pub(crate) type Column = (&'static str, &'static str);

impl OutputArgs {
    /// For a command whose own `--output` says something else.
    pub(crate) fn plain(json: bool, quiet: bool) -> Self {
        Self {
            json,
            quiet,
            ..Self::default()
        }
    }

    pub(crate) fn format(self) -> Format {
        if self.json || self.jsonl {
            Format::Json
        } else {
            self.output.unwrap_or_default()
        }
    }

    pub(crate) fn lines(self) -> bool {
        self.jsonl
    }

    /// Prints a list: `items` of the document `whole`.
    pub(crate) fn list(self, whole: &Value, items: &[Value], columns: &[Column]) -> io::Result<()> {
        match self.format() {
            Format::Json if self.jsonl => items.iter().try_for_each(|item| line(&item.to_string())),
            Format::Json | Format::Yaml => self.document(whole),
            Format::Table => table(items, columns),
            Format::Csv => csv(items, columns),
            Format::Name => items
                .iter()
                .try_for_each(|item| line(&cell(item, columns[0].1))),
        }
    }

    /// Prints one thing: all of its fields, or those columns as a table of two.
    pub(crate) fn one(self, item: &Value, columns: &[Column]) -> io::Result<()> {
        match self.format() {
            Format::Json if self.jsonl => line(&item.to_string()),
            Format::Json | Format::Yaml => self.document(item),
            Format::Csv => csv(std::slice::from_ref(item), columns),
            Format::Name => line(&cell(item, columns[0].1)),
            Format::Table => {
                let width = columns.iter().map(|c| c.0.len()).max().unwrap_or(0);
                for (title, path) in columns {
                    let value = cell(item, path);
                    if value != ABSENT {
                        line(&format!("{title:width$}  {value}"))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn document(self, value: &Value) -> io::Result<()> {
        if self.format() == Format::Yaml {
            let text = serde_yaml_ng::to_string(value).map_err(io::Error::other)?;
            return write!(io::stdout().lock(), "{text}");
        }
        line(&serde_json::to_string_pretty(value)?)
    }
}

/// Prints a line of data.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a line that is not data.
pub(crate) fn message(text: &str) {
    // Nothing is left to be told when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

const ABSENT: &str = "-";

fn cell(item: &Value, path: &str) -> String {
    let value = if path.is_empty() {
        Some(item)
    } else {
        item.pointer(path)
    };
    match value {
        None | Some(Value::Null) => ABSENT.to_owned(),
        Some(Value::String(text)) if text.is_empty() => ABSENT.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => ABSENT.to_owned(),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|i| cell(i, "")).collect();
            items.join(", ")
        }
        Some(Value::Object(map)) if map.is_empty() => ABSENT.to_owned(),
        Some(Value::Object(map)) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}={}", cell(v, "")))
                .collect();
            pairs.join(" ")
        }
        Some(other) => other.to_string(),
    }
}

fn table(items: &[Value], columns: &[Column]) -> io::Result<()> {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|c| flat(&cell(item, c.1))).collect())
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            let cells = rows.iter().map(|row| row[i].chars().count());
            cells.chain([columns[i].0.len()]).max().unwrap_or(0)
        })
        .collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(padded.join("  ").trim_end())
    };
    print(&mut columns.iter().map(|c| c.0))?;
    rows.iter()
        .try_for_each(|row| print(&mut row.iter().map(String::as_str)))
}

/// Keeps a cell on one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn csv(items: &[Value], columns: &[Column]) -> io::Result<()> {
    let titles: Vec<String> = columns.iter().map(|c| c.0.to_lowercase()).collect();
    line(&titles.join(","))?;
    items.iter().try_for_each(|item| {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| match cell(item, column.1) {
                absent if absent == ABSENT => String::new(),
                text => quoted(&text),
            })
            .collect();
        line(&cells.join(","))
    })
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_show_what_people_read() {
        let item = json!({"a": {"b": [1, "x"]}, "n": null, "t": {"k": "v"}});
        assert_eq!(cell(&item, "/a/b"), "1, x");
        assert_eq!(cell(&item, "/n"), "-");
        assert_eq!(cell(&item, "/t"), "k=v");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
