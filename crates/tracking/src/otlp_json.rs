//! OTLP in JSON: names in camel case, ids in hexadecimal digits, 64-bit numbers as text or number.
//! Fields that are not known are passed over, as the protocol wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::Error;
use crate::span::{
    AnyValue, Attribute, Attributes, Kind, Link, Span, SpanEvent, SpanStatus, Values,
};

/// Reads the spans of an `ExportTraceServiceRequest`.
///
/// # Errors
/// [`Error::Invalid`] that says which field is wrong.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Span>, Error> {
    let whole: Value = serde_json::from_slice(body)
        .map_err(|error| wrong(&format!("the body is not JSON: {error}")))?;
    let mut spans = Vec::new();
    for resource in list(&whole, "resourceSpans")? {
        for scope in list(resource, "scopeSpans")? {
            for found in list(scope, "spans")? {
                spans.push(span(found)?);
            }
        }
    }
    Ok(spans)
}

fn wrong(reason: &str) -> Error {
    Error::Invalid(format!("Invalid OpenTelemetry format: {reason}"))
}

/// A field that is a list; absent, it is empty.
fn list<'v>(value: &'v Value, field: &str) -> Result<&'v [Value], Error> {
    match &value[field] {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(wrong(&format!("{field} is not a list"))),
    }
}

fn text(value: &Value, field: &str) -> Result<String, Error> {
    match &value[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(wrong(&format!("{field} is not a text"))),
    }
}

/// A number, or the text of one; absent, it is 0.
fn number<T: TryFrom<i128> + Default>(value: &Value, field: &str) -> Result<T, Error> {
    let found = match &value[field] {
        Value::Null => return Ok(T::default()),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let number = found.parse::<i128>().ok();
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| wrong(&format!("{field} is not an integer of its size")))
}

fn id(value: &Value, field: &str) -> Result<Vec<u8>, Error> {
    let digits = text(value, field)?;
    let hex = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex {
        return Err(wrong(&format!("{field} is not hexadecimal digits")));
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_default();
    Ok((0..digits.len()).step_by(2).map(byte).collect())
}

fn span(value: &Value) -> Result<Span, Error> {
    let events = list(value, "events")?.iter().map(|event| {
        Ok(SpanEvent {
            time_ns: number(event, "timeUnixNano")?,
            name: text(event, "name")?,
            attributes: attributes(event, "attributes")?,
        })
    });
    let links = list(value, "links")?.iter().map(|link| {
        Ok(Link {
            trace_id: id(link, "traceId")?,
            span_id: id(link, "spanId")?,
            trace_state: text(link, "traceState")?,
            attributes: attributes(link, "attributes")?,
        })
    });
    let status = match &value["status"] {
        Value::Null => None,
        status => Some(SpanStatus {
            message: text(status, "message")?,
            code: number(status, "code")?,
        }),
    };
    Ok(Span {
        trace_id: id(value, "traceId")?,
        span_id: id(value, "spanId")?,
        trace_state: text(value, "traceState")?,
        parent_span_id: id(value, "parentSpanId")?,
        name: text(value, "name")?,
        kind: number(value, "kind")?,
        start_ns: number(value, "startTimeUnixNano")?,
        end_ns: number(value, "endTimeUnixNano")?,
        attributes: attributes(value, "attributes")?,
        dropped_attributes_count: number(value, "droppedAttributesCount")?,
        events: events.collect::<Result<_, Error>>()?,
        dropped_events_count: number(value, "droppedEventsCount")?,
        links: links.collect::<Result<_, Error>>()?,
        dropped_links_count: number(value, "droppedLinksCount")?,
        status,
    })
}

fn attributes(value: &Value, field: &str) -> Result<Vec<Attribute>, Error> {
    let attribute = |attribute: &Value| {
        Ok(Attribute {
            key: text(attribute, "key")?,
            value: Some(any(&attribute["value"])?),
        })
    };
    list(value, field)?.iter().map(attribute).collect()
}

/// A value of any type. JSON nests no deeper than its reader lets it.
fn any(value: &Value) -> Result<AnyValue, Error> {
    let has = |field: &str| !value[field].is_null();
    let kind = if has("stringValue") {
        Kind::Text(text(value, "stringValue")?)
    } else if let Some(flag) = value["boolValue"].as_bool() {
        Kind::Bool(flag)
    } else if has("intValue") {
        Kind::Int(number(value, "intValue")?)
    } else if has("doubleValue") {
        Kind::Double(double(&value["doubleValue"])?)
    } else if has("arrayValue") {
        let values = list(&value["arrayValue"], "values")?.iter().map(any);
        Kind::List(Values {
            values: values.collect::<Result<_, Error>>()?,
        })
    } else if has("kvlistValue") {
        Kind::Map(Attributes {
            values: attributes(&value["kvlistValue"], "values")?,
        })
    } else if has("bytesValue") {
        let bytes = STANDARD.decode(text(value, "bytesValue")?);
        Kind::Bytes(bytes.map_err(|_| wrong("bytesValue is not base64"))?)
    } else {
        return Ok(AnyValue { kind: None });
    };
    Ok(AnyValue { kind: Some(kind) })
}

fn double(value: &Value) -> Result<f64, Error> {
    let named = |text: &str| match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    };
    let found = value.as_f64().or_else(|| named(value.as_str()?));
    found.ok_or_else(|| wrong("doubleValue is not a number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn export(span: Value) -> Vec<u8> {
        let scopes = json!([{ "scope": { "name": "x" }, "spans": [span] }]);
        let whole = json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": scopes }] });
        whole.to_string().into_bytes()
    }

    #[test]
    fn every_type_of_value_is_read() {
        let span = json!({
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174",
            "parentSpanId": "", "name": "call", "kind": 2, "unknown": {"a": 1},
            "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1_544_712_661_000_000_000_u64,
            "attributes": [
                {"key": "a", "value": {"stringValue": "t"}},
                {"key": "b", "value": {"boolValue": false}},
                {"key": "c", "value": {"intValue": "-3"}},
                {"key": "d", "value": {"doubleValue": 1.5}},
                {"key": "e", "value": {"arrayValue": {"values": [{"intValue": 1}]}}},
                {"key": "f", "value": {"kvlistValue": {"values": [{"key": "g", "value": {"stringValue": ""}}]}}},
                {"key": "h", "value": {}},
            ],
            "events": [{"timeUnixNano": "7", "name": "e"}],
            "status": {"code": 1}
        });
        let mut spans = read(&export(span)).unwrap();
        let span = spans.remove(0);
        assert_eq!(
            span.mlflow_trace_id(),
            "tr-5b8efff798038103d269b633813fc60c"
        );
        assert!(span.is_root() && spans.is_empty());
        assert_eq!(span.end_ns - span.start_ns, 1_000_000_000);
        for (key, value) in [
            ("a", json!("t")),
            ("b", json!(false)),
            ("c", json!(-3)),
            ("d", json!(1.5)),
            ("e", json!([1])),
            ("f", json!({"g": ""})),
            ("h", Value::Null),
        ] {
            assert_eq!(span.attribute(key), Some(value), "{key}");
        }
        assert_eq!(span.events[0].time_ns, 7);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (span, told) in [
            (json!({"traceId": "xyz"}), "traceId"),
            (json!({"startTimeUnixNano": "soon"}), "startTimeUnixNano"),
            (json!({"attributes": 7}), "attributes"),
            (json!({"name": 7}), "name"),
            (json!({"status": {"code": "9".repeat(30)}}), "code"),
        ] {
            let refused = read(&export(span)).unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert!(read(b"{").is_err());
        assert!(read(b"{}").unwrap().is_empty());
    }
}
