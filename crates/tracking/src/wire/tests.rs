use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Point {
    step: Option<Int>,
    value: Option<Double>,
    kind: Option<Choice>,
    deep: Option<Flag>,
    #[serde(default)]
    names: List<String>,
    #[serde(default)]
    tags: List<KeyValue>,
}

fn body(text: &str) -> Result<Point, Error> {
    parse_body(text.as_bytes())
}

#[test]
fn an_int64_is_a_number_or_a_string() {
    for text in [r#"{"step":7}"#, r#"{"step":"7"}"#, r#"{"step":7.0}"#] {
        assert_eq!(body(text).unwrap().step, Some(Int(7)), "{text}");
    }
    assert_eq!(body(r#"{"step":null,"other":1}"#).unwrap().step, None);
}

#[test]
fn a_number_that_does_not_fit_is_refused_and_named() {
    for text in [
        r#"{"step":1.7}"#,
        r#"{"step":"x"}"#,
        r#"{"step":true}"#,
        r#"{"step":1e300}"#,
        r#"{"step":18446744073709551615}"#,
        r#"{"value":"high"}"#,
        r#"{"value":NaN}"#,
        r#"{"names":[1]}"#,
    ] {
        assert_eq!(
            body(text).unwrap_err().code().mlflow().1,
            400,
            "{text} must be refused"
        );
    }
    let error = body(r#"{"tags":[{"key":"a"},{"key":5}]}"#).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Invalid value 5 for parameter 'tags[1].key' supplied"),
        "{error}"
    );
}

#[test]
fn doubles_have_names_for_what_json_cannot_write() {
    let value = |text: &str| body(text).unwrap().value.unwrap().0;
    assert!(value(r#"{"value":"NaN"}"#).is_nan());
    assert_eq!(value(r#"{"value":"-Infinity"}"#), f64::NEG_INFINITY);
    assert_eq!(value(r#"{"value":"Infinity"}"#), f64::INFINITY);
    assert_eq!(value(r#"{"value":3}"#), 3.0);
}

#[test]
fn broken_bodies_are_refused_cleanly() {
    for text in [
        "{",
        "[]",
        "7",
        "\"x\"",
        "{\"step\":1} x",
        "\u{0}",
        "{\"names\":[\"a\\u0000b\"]}",
    ] {
        let error = body(text).unwrap_err();
        assert_eq!(error.code().mlflow().1, 400, "{text}: {error}");
    }
    assert_eq!(body("").unwrap().step, None);
}

#[test]
fn a_query_string_repeats_the_key_of_a_list() {
    let read = |text| parse_query::<Point>(text).unwrap();
    assert_eq!(read("names=a&names=b%20c").names.0, ["a", "b c"]);
    assert_eq!(read("names=a+b&step=3&deep=True").names.0, ["a b"]);
    assert_eq!(read("step=3").step, Some(Int(3)));
    assert_eq!(read("kind=ALL").kind, Some(Choice::Name("ALL".to_owned())));
    assert_eq!(read("kind=2").kind, Some(Choice::Number(2)));
    assert!(parse_query::<Point>("step=x").is_err());
    assert!(parse_query::<Point>("names=a%00").is_err());
}

#[test]
fn required_fields_are_named() {
    assert_eq!(
        required(Some(String::new()), "name")
            .unwrap_err()
            .to_string(),
        "Missing value for required parameter 'name'. See the API docs for more information about request parameters."
    );
    let tags = body(r#"{"tags":[{"key":"a"},{"value":"b"}]}"#)
        .unwrap()
        .tags;
    let error = pairs(tags, "tags").unwrap_err();
    assert!(error.to_string().contains("'tags[1].key'"), "{error}");
}

proptest! {
    #[test]
    fn no_body_and_no_query_panics(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_query::<Point>(&text);
        let _ = parse_body::<Point>(text.as_bytes());
        let _ = parse_body::<Point>(&bytes);
    }
}
