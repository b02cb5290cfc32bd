//! The log of a deployment: what the platform did, and what its replicas said.

use serde_json::Value;
use web::Timestamp;

use crate::error::Error;
use crate::{Deployments, store};

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1 on; the first lines of a long log may be gone.
    pub(crate) number: i64,
    /// `platform`, or `replica 0`.
    pub(crate) source: String,
    pub(crate) at: i64,
    pub(crate) text: String,
}

/// Who wrote the platform's own lines.
pub(crate) const PLATFORM: &str = "platform";

/// Lines that are read at once.
const PAGE: i64 = 500;

/// The longest line that is kept whole, in characters.
const LONGEST: usize = 4_000;

impl Deployments {
    /// Adds lines to a log. That the log cannot be written is told to the server's, and stops
    /// nothing.
    pub(crate) async fn say(&self, id: &str, source: &str, lines: Vec<String>) {
        let lines: Vec<String> = lines.into_iter().map(kept).collect();
        if let Err(error) = self.append(id, source, &lines).await {
            tracing::warn!(deployment_id = id, %error, "a deployment's log cannot be written");
        }
        self.changed();
    }

    async fn append(&self, id: &str, source: &str, lines: &[String]) -> Result<(), Error> {
        let mut tx = self.db().begin().await?;
        store::logs::append(&mut tx, id, source, lines, Timestamp::now().0).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The lines after a number.
    pub(crate) async fn log_after(&self, id: &str, after: i64) -> Result<Vec<Line>, Error> {
        let mut conn = self.db().acquire().await?;
        Ok(store::logs::list_after(&mut conn, id, after, PAGE).await?)
    }
}

/// A line as it is stored: bounded, and without what no database takes.
fn kept(line: String) -> String {
    let line = line.replace('\0', "");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A line of a model server's own log as people read it: what happened, and the fields that say more.
/// What the model's code writes stays as it is.
pub(crate) fn in_words(line: String) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&line) else {
        return line;
    };
    let mut take = |name| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    // Where in asgard it comes from tells nobody anything who deploys a model.
    let own = [
        take("timestamp"),
        take("target"),
        take("level"),
        take("message"),
    ];
    let [Some(_), Some(_), Some(level), Some(message)] = own else {
        return line;
    };
    let mark = match level.as_str() {
        "ERROR" => "✗ ",
        "WARN" => "⚠ ",
        _ => "",
    };
    let more: Vec<String> = fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}: {text}"),
            value => format!("{name}: {value}"),
        })
        .collect();
    match more.is_empty() {
        true => format!("{mark}{message}"),
        false => format!("{mark}{message} ({})", more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded() {
        assert_eq!(kept("a\0b".to_owned()), "ab");
        assert_eq!(kept("ä".repeat(LONGEST + 5)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_servers_own_line_is_told_without_the_names_of_its_modules() {
        let own = r#"{"timestamp":"2026-11-26T12:00:00Z","level":"WARN","message":"a model worker died","how":"was killed","rows":3,"target":"serving::dispatch"}"#;
        assert_eq!(
            in_words(own.to_owned()),
            "⚠ a model worker died (how: was killed, rows: 3)"
        );
        for line in [
            "epoch 3",
            r#"{"level":"WARN","message":"of the model"}"#,
            "{",
        ] {
            assert_eq!(in_words(line.to_owned()), line);
        }
    }
}
