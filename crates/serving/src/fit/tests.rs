//! Requests that fit, and those that do not.

use super::*;
use crate::frame::Buffer;

fn inputs(json: &str) -> Inputs {
    serde_json::from_str(json).unwrap()
}

fn names(fitted: &Fitted) -> Vec<&str> {
    let columns = &fitted.frame.layout.columns;
    columns.iter().map(|(n, _)| n.as_str()).collect()
}

fn columns(specs: &str) -> Signature {
    Signature::parse(specs).unwrap()
}

fn message(problems: Vec<Problem>) -> String {
    let text = problems.into_iter().map(|p| {
        let column = p.column.unwrap_or_default();
        format!("{column}: {}", p.message)
    });
    text.collect::<Vec<_>>().join("; ")
}

const AGE_CITY: &str = r#"[{"type":"double","name":"age"},{"type":"string","name":"city"},
                           {"type":"long","name":"visits","required":false}]"#;

#[test]
fn columns_follow_the_order_of_the_signature() {
    let sent = inputs(r#"{"city":["Oslo"],"visits":[3],"age":[41]}"#);
    let fitted = fit(sent, &columns(AGE_CITY), &Features::default()).unwrap();
    assert_eq!(names(&fitted), ["age", "city", "visits"]);
    assert_eq!(fitted.frame.columns[0], Buffer::F64(vec![41.0]));
    assert!(fitted.notes.is_empty());
}

#[test]
fn an_optional_column_may_be_left_out() {
    let sent = inputs(r#"{"age":[41],"city":["Oslo"]}"#);
    let fitted = fit(sent, &columns(AGE_CITY), &Features::default()).unwrap();
    assert_eq!(names(&fitted), ["age", "city"]);
}

#[test]
fn missing_and_extra_columns_are_all_named() {
    let sent = inputs(r#"{"age":[41],"town":["Oslo"]}"#);
    let problems = fit(sent, &columns(AGE_CITY), &Features::default()).unwrap_err();
    let text = message(problems);
    assert!(text.contains("city: is missing"), "{text}");
    assert!(
        text.contains("town: is not a column of the model"),
        "{text}"
    );
    assert!(text.contains("\"city\": string"), "{text}");
}

#[test]
fn ragged_columns_are_named() {
    let sent = inputs(r#"{"age":[41, 42],"city":["Oslo"]}"#);
    let text = message(fit(sent, &columns(AGE_CITY), &Features::default()).unwrap_err());
    assert!(
        text.starts_with("city: has 1 value, but \"age\" has 2"),
        "{text}"
    );
}

#[test]
fn named_columns_reach_a_model_that_was_trained_without_names() {
    let iris = r#"{"sepal length (cm)":[5.1],"sepal width (cm)":[3.5],
                   "petal length (cm)":[1.4],"petal width (cm)":[0.2]}"#;
    let features = Features {
        count: Some(4),
        ..Features::default()
    };
    let array = r#"[{"type":"tensor","tensor-spec":{"dtype":"float64","shape":[-1,4]}}]"#;
    for signature in [Signature::Absent, columns(array)] {
        let fitted = fit(inputs(iris), &signature, &features).unwrap();
        assert!(matches!(fitted.frame.layout.form, Form::Matrix { .. }));
        assert!(fitted.notes[0].contains("in the order they were sent"));
    }
}

#[test]
fn two_columns_for_a_model_of_twenty_say_so() {
    let features = Features {
        count: Some(20),
        ..Features::default()
    };
    let sent = inputs(r#"{"feature_1":[1.0],"feature_2":[2.0]}"#);
    let text = message(fit(sent, &Signature::Absent, &features).unwrap_err());
    assert!(
        text.contains("expects 20 columns, but 2 were sent"),
        "{text}"
    );
}

#[test]
fn a_model_that_remembers_its_columns_gets_them_in_order() {
    let features = Features {
        names: Some(vec!["a".to_owned(), "b".to_owned()]),
        count: Some(2),
        ..Features::default()
    };
    let fitted = fit(
        inputs(r#"{"b":[2],"a":[1]}"#),
        &Signature::Absent,
        &features,
    )
    .unwrap();
    assert_eq!(names(&fitted), ["a", "b"]);
    assert_eq!(fitted.frame.layout.form, Form::Table);
    let text = message(
        fit(
            inputs(r#"{"b":[2],"c":[1]}"#),
            &Signature::Absent,
            &features,
        )
        .unwrap_err(),
    );
    assert!(
        text.contains("a: is missing") && text.contains("c: is not"),
        "{text}"
    );
}

#[test]
fn an_array_of_rows_may_be_one_column() {
    let array = r#"[{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1,2]}}]"#;
    let sent = inputs(r#"{"x":[[1,2],[3,4]]}"#);
    let fitted = fit(sent, &columns(array), &Features::default()).unwrap();
    assert!(matches!(
        fitted.frame.layout.form,
        Form::Arrays { named: false, .. }
    ));
    assert_eq!(fitted.frame.rows, 2);
}

#[test]
fn a_model_that_knows_nothing_gets_what_was_sent() {
    let sent = inputs(r#"{"x":[1, 2],"y":["a", null]}"#);
    let fitted = fit(sent, &Signature::Absent, &Features::default()).unwrap();
    assert_eq!(fitted.frame.columns[0], Buffer::I64(vec![1, 2]));
    assert_eq!(fitted.frame.layout.form, Form::Table);
}

#[test]
fn no_columns_and_no_rows_are_refused() {
    for (sent, word) in [("{}", "no columns"), (r#"{"a":[]}"#, "at least one row")] {
        let problems = fit(inputs(sent), &Signature::Absent, &Features::default());
        assert!(message(problems.unwrap_err()).contains(word));
    }
}
