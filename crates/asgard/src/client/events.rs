//! Server-sent events: bytes in, events out (the WHATWG HTML standard, section 9.2.6).

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use serde_json::Value;

use crate::failure::{Exit, Failure};

type Bytes = Pin<Box<dyn Stream<Item = Result<Vec<u8>, reqwest::Error>> + Send>>;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind; empty: a plain message.
    pub(crate) name: String,
    /// Where to go on after it.
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

impl Event {
    /// What it tells: every event of an asgard server is JSON.
    ///
    /// # Errors
    /// [`Exit::Failure`] when it is something else.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.data).map_err(|_| {
            let message = format!("the server sent an event {:?} that is not JSON", self.name);
            Failure::new(Exit::Failure, message)
                .help("is that an asgard server, and is nothing between that changes its answers? 'asgard status' asks it")
        })
    }
}

/// A stream of events.
pub(crate) struct Events {
    bytes: Bytes,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
}

impl Events {
    pub(crate) fn new<B: AsRef<[u8]>>(
        bytes: impl Stream<Item = Result<B, reqwest::Error>> + Send + 'static,
    ) -> Self {
        Self {
            bytes: bytes.map(|r| r.map(|b| b.as_ref().to_vec())).boxed(),
            parser: Parser::default(),
            ready: std::collections::VecDeque::new(),
        }
    }

    /// The next event; `None` when the stream ended or broke.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let bytes = self.bytes.next().await?.ok()?;
            self.ready.extend(self.parser.push(&bytes));
        }
    }
}

#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    events.push(event);
                }
            } else {
                self.field(line);
            }
        }
        events
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments keep the connection alive; `retry` and the unknown mean nothing here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_is_told() {
        let event = |data: &str| Event {
            name: "status".to_owned(),
            data: data.to_owned(),
            ..Event::default()
        };
        assert_eq!(event(r#"{"a": 1}"#).json().unwrap()["a"], 1);
        for wrong in ["", "gone", "{"] {
            let refused = event(wrong).json().unwrap_err();
            assert!(refused.message().contains("\"status\""), "{refused}");
        }
    }

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream =
            b": hello\n\nevent: log\nid: 5\ndata: a\ndata: b\r\n\r\ndata:x\n\nevent: none\n\n";
        let expected = [
            Event {
                name: "log".into(),
                id: Some("5".into()),
                data: "a\nb".into(),
            },
            Event {
                data: "x".into(),
                ..Event::default()
            },
        ];
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> = stream
                .chunks(size)
                .flat_map(|bytes| parser.push(bytes))
                .collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
