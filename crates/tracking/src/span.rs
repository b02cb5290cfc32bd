//! Spans: the parts of a trace, kept as the OTLP messages that they came in (`trace.proto`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Oneof};
use serde_json::{Map, Value, json};

/// What a client of OTLP sends (`ExportTraceServiceRequest`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Export {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
}

/// A part of a trace.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// Empty for the root.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Epoch nanoseconds.
    #[prost(fixed64, tag = "7")]
    pub start_ns: u64,
    /// Epoch nanoseconds; 0 while it is going on.
    #[prost(fixed64, tag = "8")]
    pub end_ns: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    #[prost(uint32, tag = "10")]
    pub dropped_attributes_count: u32,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<SpanEvent>,
    #[prost(uint32, tag = "12")]
    pub dropped_events_count: u32,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(uint32, tag = "14")]
    pub dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
}

/// Something that happened during a span.
#[derive(Clone, PartialEq, Message)]
pub struct SpanEvent {
    /// Epoch nanoseconds.
    #[prost(fixed64, tag = "1")]
    pub time_ns: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<Attribute>,
}

/// A span of another trace that this one follows from.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<Attribute>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    #[prost(string, tag = "2")]
    pub message: String,
    /// 0 unset, 1 ok, 2 error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// A named value.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value of any type.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<Kind>,
}

/// The types of a value.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(Values),
    #[prost(message, tag = "6")]
    Map(Attributes),
    #[prost(bytes, tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub struct Values {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attributes {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Attribute>,
}

/// The code of an error in a span's status.
const ERROR: i32 = 2;

/// PostgreSQL has no text that holds a NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Span {
    /// The id of its trace, as MLflow makes it of OTLP's.
    pub fn mlflow_trace_id(&self) -> String {
        format!("tr-{}", hex(&self.trace_id))
    }

    /// Whether it is the whole of its trace.
    pub(crate) fn is_root(&self) -> bool {
        self.parent_span_id.is_empty()
    }

    pub(crate) fn is_error(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.code == ERROR)
    }

    /// What MLflow calls its type, such as `LLM`, when its client says one.
    pub(crate) fn span_type(&self) -> Option<String> {
        match self.attribute("mlflow.spanType")? {
            Value::String(text) => Some(without_nul(&text)),
            _ => None,
        }
    }

    /// How it ended, as searches name it.
    pub(crate) fn status_word(&self) -> &'static str {
        match self.status.as_ref().map(|status| status.code) {
            Some(1) => "OK",
            Some(ERROR) => "ERROR",
            _ => "UNSET",
        }
    }

    /// Its name, as searches look at it.
    pub(crate) fn plain_name(&self) -> String {
        without_nul(&self.name)
    }

    /// All of it, as searches look at it.
    pub(crate) fn text(&self) -> String {
        self.mlflow_json().to_string().replace("\\u0000", "\\ufffd")
    }

    /// An attribute's value as JSON; `None` when it has none of this name.
    pub(crate) fn attribute(&self, key: &str) -> Option<Value> {
        let found = self.attributes.iter().find(|a| a.key == key)?;
        Some(found.value.as_ref().map_or(Value::Null, AnyValue::plain))
    }

    /// The protobuf JSON of the message, in snake case: what `batchGet` answers.
    pub(crate) fn proto_json(&self) -> Value {
        let bytes = |bytes: &[u8]| STANDARD.encode(bytes);
        let attributes =
            |list: &[Attribute]| -> Value { list.iter().map(Attribute::proto_json).collect() };
        let event = |event: &SpanEvent| {
            json!({
                "time_unix_nano": event.time_ns.to_string(),
                "name": event.name,
                "attributes": attributes(&event.attributes),
            })
        };
        let link = |link: &Link| {
            json!({
                "trace_id": bytes(&link.trace_id),
                "span_id": bytes(&link.span_id),
                "attributes": attributes(&link.attributes),
            })
        };
        let status = self.status.clone().unwrap_or_default();
        json!({
            "trace_id": bytes(&self.trace_id),
            "span_id": bytes(&self.span_id),
            "parent_span_id": bytes(&self.parent_span_id),
            "name": self.name,
            "kind": self.kind,
            "start_time_unix_nano": self.start_ns.to_string(),
            "end_time_unix_nano": self.end_ns.to_string(),
            "attributes": attributes(&self.attributes),
            "events": self.events.iter().map(event).collect::<Value>(),
            "links": self.links.iter().map(link).collect::<Value>(),
            "status": {"message": status.message, "code": status.code},
        })
    }

    /// The span as MLflow writes it into `traces.json` (`Span.to_dict`).
    pub(crate) fn mlflow_json(&self) -> Value {
        let bytes = |bytes: &[u8]| STANDARD.encode(bytes);
        let dumped = |list: &[Attribute]| -> Map<String, Value> {
            let text = |a: &Attribute| {
                let value = a.value.as_ref().map_or(Value::Null, AnyValue::plain);
                (a.key.clone(), Value::from(value.to_string()))
            };
            list.iter().map(text).collect()
        };
        let plain = |list: &[Attribute]| -> Map<String, Value> {
            let value = |a: &Attribute| {
                let value = a.value.as_ref().map_or(Value::Null, AnyValue::plain);
                (a.key.clone(), value)
            };
            list.iter().map(value).collect()
        };
        let mut attributes = dumped(&self.attributes);
        let request_id = Value::from(self.mlflow_trace_id()).to_string();
        attributes
            .entry("mlflow.traceRequestId")
            .or_insert(request_id.into());
        let event = |event: &SpanEvent| json!({"name": event.name, "time_unix_nano": event.time_ns, "attributes": plain(&event.attributes)});
        let status = self.status.clone().unwrap_or_default();
        let code = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
        let code = usize::try_from(status.code).ok().and_then(|c| code.get(c));
        let parent = (!self.is_root()).then(|| bytes(&self.parent_span_id));
        json!({
            "trace_id": bytes(&self.trace_id),
            "span_id": bytes(&self.span_id),
            "parent_span_id": parent,
            "name": self.name,
            "start_time_unix_nano": self.start_ns,
            "end_time_unix_nano": (self.end_ns > 0).then_some(self.end_ns),
            "events": self.events.iter().map(event).collect::<Value>(),
            "status": {"code": code.unwrap_or(&"STATUS_CODE_UNSET"), "message": status.message},
            "attributes": attributes,
            "links": [],
        })
    }

    /// Reads what MLflow wrote of a span into its database (`Span.to_dict`, from 3.5 on).
    pub fn read_mlflow_json(text: &str) -> Option<Self> {
        let span: Value = serde_json::from_str(text).ok()?;
        let id = |key: &str, bytes: usize| read_id(span[key].as_str()?, bytes);
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let attributes = span["attributes"].as_object().cloned().unwrap_or_default();
        let event = |event: &Value| SpanEvent {
            time_ns: number(&event["time_unix_nano"]).unwrap_or_default(),
            name: event["name"].as_str().unwrap_or_default().to_owned(),
            attributes: event["attributes"]
                .as_object()
                .map(|map| map.iter().map(|(k, v)| Attribute::new(k, v)).collect())
                .unwrap_or_default(),
        };
        let code = match span["status"]["code"].as_str() {
            Some("STATUS_CODE_OK" | "OK") => 1,
            Some("STATUS_CODE_ERROR" | "ERROR") => ERROR,
            _ => 0,
        };
        Some(Self {
            trace_id: id("trace_id", 16)?,
            span_id: id("span_id", 8)?,
            parent_span_id: id("parent_span_id", 8).unwrap_or_default(),
            name: span["name"].as_str()?.to_owned(),
            start_ns: number(&span["start_time_unix_nano"])?,
            end_ns: number(&span["end_time_unix_nano"]).unwrap_or_default(),
            // Each value is JSON in a text.
            attributes: attributes
                .iter()
                .map(|(key, value)| {
                    let inner = value.as_str().and_then(|t| serde_json::from_str(t).ok());
                    Attribute::new(key, &inner.unwrap_or_else(|| value.clone()))
                })
                .collect(),
            events: span["events"]
                .as_array()
                .into_iter()
                .flatten()
                .map(event)
                .collect(),
            status: Some(SpanStatus {
                code,
                message: span["status"]["message"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            }),
            ..Self::default()
        })
    }
}

/// Reads an id in base64, or in hexadecimal digits with or without `tr-`.
fn read_id(text: &str, bytes: usize) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("tr-").unwrap_or(text);
    if digits.len() == bytes * 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        return (0..digits.len()).step_by(2).map(pair).collect();
    }
    STANDARD.decode(text).ok().filter(|id| id.len() == bytes)
}

impl Attribute {
    fn new(key: &str, value: &Value) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(AnyValue::of(value)),
        }
    }

    fn proto_json(&self) -> Value {
        let value = self.value.as_ref().map_or(json!({}), AnyValue::proto_json);
        json!({"key": self.key, "value": value})
    }
}

impl AnyValue {
    fn of(value: &Value) -> Self {
        let kind = match value {
            Value::Null => return Self { kind: None },
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => Kind::Int(value),
                None => Kind::Double(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Kind::Text(text.clone()),
            Value::Array(items) => Kind::List(Values {
                values: items.iter().map(Self::of).collect(),
            }),
            Value::Object(map) => Kind::Map(Attributes {
                values: map.iter().map(|(k, v)| Attribute::new(k, v)).collect(),
            }),
        };
        Self { kind: Some(kind) }
    }

    /// The value as a program would write it.
    fn plain(&self) -> Value {
        match &self.kind {
            None => Value::Null,
            Some(Kind::Text(text)) => json!(text),
            Some(Kind::Bool(value)) => json!(value),
            Some(Kind::Int(value)) => json!(value),
            Some(Kind::Double(value)) => json!(value),
            Some(Kind::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
            Some(Kind::List(list)) => list.values.iter().map(Self::plain).collect(),
            Some(Kind::Map(map)) => {
                let value = |a: &Attribute| {
                    let value = a.value.as_ref().map_or(Value::Null, Self::plain);
                    (a.key.clone(), value)
                };
                json!(map.values.iter().map(value).collect::<BTreeMap<_, _>>())
            }
        }
    }

    fn proto_json(&self) -> Value {
        match &self.kind {
            None => json!({}),
            Some(Kind::Text(text)) => json!({"string_value": text}),
            Some(Kind::Bool(value)) => json!({"bool_value": value}),
            Some(Kind::Int(value)) => json!({"int_value": value.to_string()}),
            Some(Kind::Double(value)) if value.is_finite() => json!({"double_value": value}),
            Some(Kind::Double(value)) => {
                let text = match value {
                    v if v.is_nan() => "NaN",
                    v if *v > 0.0 => "Infinity",
                    _ => "-Infinity",
                };
                json!({"double_value": text})
            }
            Some(Kind::Bytes(bytes)) => json!({"bytes_value": STANDARD.encode(bytes)}),
            Some(Kind::List(list)) => {
                let values: Value = list.values.iter().map(Self::proto_json).collect();
                json!({"array_value": {"values": values}})
            }
            Some(Kind::Map(map)) => {
                let values: Value = map.values.iter().map(Attribute::proto_json).collect();
                json!({"kvlist_value": {"values": values}})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_mlflows_database_reads_back_as_it_was() {
        let text = r#"{"trace_id": "eR7d19Tmv6w+p3dG5cxWqg==", "span_id": "IV1wc51Tm7Y=",
            "parent_span_id": "Jq5c96EKUiM=", "name": "inner", "start_time_unix_nano": 5,
            "end_time_unix_nano": 9, "events": [], "links": [],
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": {"mlflow.traceRequestId": "\"tr-791eddd7d4e6bfac3ea77746e5cc56aa\"",
                "mlflow.spanInputs": "{\"x\": [0, 1.5, null, true]}", "plain": "not json"}}"#;
        let span = Span::read_mlflow_json(text).unwrap();
        assert_eq!(
            span.mlflow_trace_id(),
            "tr-791eddd7d4e6bfac3ea77746e5cc56aa"
        );
        assert!(!span.is_root() && !span.is_error());
        let again = Span::decode(span.encode_to_vec().as_slice()).unwrap();
        assert_eq!(again, span);
        let written = again.mlflow_json();
        assert_eq!(
            written["attributes"]["mlflow.spanInputs"],
            "{\"x\":[0,1.5,null,true]}"
        );
        assert_eq!(written["span_id"], "IV1wc51Tm7Y=");
        assert_eq!(again.attribute("plain"), Some(json!("not json")));
        assert_eq!(again.proto_json()["status"]["code"], 1);
    }

    #[test]
    fn ids_are_read_in_both_forms() {
        assert_eq!(read_id("215d70739d539bb6", 8), read_id("IV1wc51Tm7Y=", 8));
        assert_eq!(read_id("tr-00", 16), None);
    }
}
