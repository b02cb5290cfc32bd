//! Fitting what was sent to what a model takes: names, order, number and type of columns.

use serde_json::Value;

use crate::convert::{convert, natural};
use crate::frame::{Buffer, Form, Frame};
use crate::inputs::{Cells, Inputs};
use crate::signature::{Array, Column, Kind, Signature};

/// What a loaded model itself knows about its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Features {
    /// The columns that it was trained with, when they had names.
    pub(crate) names: Option<Vec<String>>,
    /// How many columns it was trained with.
    pub(crate) count: Option<usize>,
    /// Whether the names may have been rewritten by the library, so that other names are not
    /// wrong.
    pub(crate) names_are_rewritten: bool,
}

/// A frame that the model takes, and what the caller should know about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) frame: Frame,
    pub(crate) notes: Vec<String>,
}

/// What is wrong with one column, or with all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub column: Option<String>,
    pub message: String,
}

impl Problem {
    pub(crate) fn column(column: &str, message: impl Into<String>) -> Self {
        Self {
            column: Some(column.to_owned()),
            message: message.into(),
        }
    }

    fn all(message: impl Into<String>) -> Vec<Self> {
        vec![Self {
            column: None,
            message: message.into(),
        }]
    }
}

/// Fits the columns of a request to a model.
///
/// # Errors
/// Every column that does not fit, with what is expected.
pub(crate) fn fit(
    inputs: Inputs,
    signature: &Signature,
    features: &Features,
) -> Result<Fitted, Vec<Problem>> {
    let rows = equal_length(&inputs)?;
    match signature {
        Signature::Columns(columns) => table(inputs, rows, columns),
        Signature::Array(array) => matrix(inputs, rows, array, features),
        Signature::Arrays(arrays) => dictionary(inputs, rows, arrays),
        Signature::Absent => unsigned(inputs, rows, features),
    }
}

fn equal_length(inputs: &Inputs) -> Result<usize, Vec<Problem>> {
    let Some((first, cells)) = inputs.0.first() else {
        return Err(Problem::all(
            "no columns were sent; send {\"column\": [a value for each row], ...}",
        ));
    };
    let rows = cells.len();
    let ragged: Vec<Problem> = inputs
        .0
        .iter()
        .filter(|(_, cells)| cells.len() != rows)
        .map(|(name, cells)| {
            let message = format!(
                "has {}, but {first:?} has {rows}; every column needs one value for each row",
                counted(cells.len(), "value")
            );
            Problem::column(name, message)
        })
        .collect();
    if !ragged.is_empty() {
        return Err(ragged);
    }
    if rows == 0 {
        return Err(Problem::all("the columns are empty; send at least one row"));
    }
    Ok(rows)
}

/// Columns by the names and types of the signature.
fn table(inputs: Inputs, rows: usize, columns: &[Column]) -> Result<Fitted, Vec<Problem>> {
    let Some(names) = columns
        .iter()
        .map(|c| c.name.as_deref())
        .collect::<Option<Vec<_>>>()
    else {
        return by_order(inputs, rows, columns);
    };
    let required = |name: &str| {
        columns
            .iter()
            .any(|c| c.required && c.name.as_deref() == Some(name))
    };
    let described: Vec<String> = columns
        .iter()
        .filter_map(|c| Some(format!("{:?}: {}", c.name.as_deref()?, c.kind.expected())))
        .collect();
    let mut sent = pick(inputs, &names, required, &described)?;
    let mut taken = Vec::with_capacity(columns.len());
    let mut problems = Vec::new();
    for (column, name) in columns.iter().zip(&names) {
        let Some(cells) = sent
            .iter_mut()
            .find(|(n, _)| n == name)
            .map(|(_, c)| std::mem::replace(c, Cells::Mixed(Vec::new())))
        else {
            continue;
        };
        match convert(cells, column.kind) {
            Ok(buffer) => taken.push(((*name).to_owned(), buffer)),
            Err(message) => problems.push(Problem::column(name, message)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(fitted(Frame::new(Form::Table, rows, taken), vec![]))
}

/// Columns of a signature that has types but no names.
fn by_order(inputs: Inputs, rows: usize, columns: &[Column]) -> Result<Fitted, Vec<Problem>> {
    expect_count(&inputs, columns.len())?;
    let note = order_note(&inputs);
    let kinds = columns.iter().map(|c| c.kind);
    let taken = convert_all(inputs, kinds)?;
    Ok(fitted(Frame::new(Form::Table, rows, taken), vec![note]))
}

/// One array without a name: columns side by side, or one column of nested lists.
fn matrix(
    inputs: Inputs,
    rows: usize,
    array: &Array,
    features: &Features,
) -> Result<Fitted, Vec<Problem>> {
    let nested =
        matches!(inputs.0.as_slice(), [(_, Cells::Mixed(v))] if v.iter().any(Value::is_array));
    if nested || array.shape.len() > 2 {
        return nested_array(inputs, rows, array);
    }
    let width = match array.shape.as_slice() {
        [_, width] if *width >= 0 => usize::try_from(*width).ok(),
        [_] => Some(1),
        _ => features.count,
    };
    if let Some(width) = width {
        expect_count(&inputs, width)?;
    }
    let (inputs, notes) = by_known_names(inputs, features);
    let kind = array.kind();
    let kinds = std::iter::repeat(kind);
    let form = Form::Matrix {
        dtype: Some(array.dtype.clone()),
        shape: Some(array.shape.clone()),
    };
    Ok(fitted(
        Frame::new(form, rows, convert_all(inputs, kinds)?),
        notes,
    ))
}

fn nested_array(inputs: Inputs, rows: usize, array: &Array) -> Result<Fitted, Vec<Problem>> {
    if inputs.0.len() != 1 {
        return Err(Problem::all(format!(
            "the model takes one array of shape {:?}; send one column whose values are nested lists, but {} were sent",
            array.shape,
            counted(inputs.0.len(), "column")
        )));
    }
    let form = Form::Arrays {
        specs: vec![(array.dtype.clone(), array.shape.clone())],
        named: false,
    };
    Ok(fitted(Frame::new(form, rows, as_json(inputs)), vec![]))
}

/// Several arrays by name.
fn dictionary(
    inputs: Inputs,
    rows: usize,
    arrays: &[(String, Array)],
) -> Result<Fitted, Vec<Problem>> {
    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    let described: Vec<String> = arrays
        .iter()
        .map(|(name, a)| format!("{name:?}: {} of shape {:?}", a.dtype, a.shape))
        .collect();
    let sent = pick(inputs, &names, |_| true, &described)?;
    let form = Form::Arrays {
        specs: arrays
            .iter()
            .map(|(_, a)| (a.dtype.clone(), a.shape.clone()))
            .collect(),
        named: true,
    };
    let ordered = in_order(sent, &names);
    Ok(fitted(Frame::new(form, rows, as_json(ordered)), vec![]))
}

/// A model without a signature: what it remembers of its training decides.
fn unsigned(inputs: Inputs, rows: usize, features: &Features) -> Result<Fitted, Vec<Problem>> {
    let strict = features.names.as_ref().filter(|names| {
        let sent = |name: &String| inputs.0.iter().any(|(n, _)| n == name);
        !features.names_are_rewritten || names.iter().any(sent)
    });
    if let Some(names) = strict {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let described: Vec<String> = names.iter().map(|n| format!("{n:?}")).collect();
        let ordered = in_order(pick(inputs, &names, |_| true, &described)?, &names);
        return Ok(fitted(
            Frame::new(Form::Table, rows, naturally(ordered)),
            vec![],
        ));
    }
    let Some(count) = features.count else {
        return Ok(fitted(
            Frame::new(Form::Table, rows, naturally(inputs)),
            vec![],
        ));
    };
    expect_count(&inputs, count)?;
    let notes = vec![order_note(&inputs)];
    let form = Form::Matrix {
        dtype: None,
        shape: None,
    };
    Ok(fitted(Frame::new(form, rows, naturally(inputs)), notes))
}

/// Sorts columns by the model's names if exactly those were sent, else takes them as they came.
fn by_known_names(inputs: Inputs, features: &Features) -> (Inputs, Vec<String>) {
    if let Some(names) = &features.names {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let same = names.len() == inputs.0.len()
            && inputs.0.iter().all(|(n, _)| names.contains(&n.as_str()));
        if same {
            return (in_order(inputs, &names), vec![]);
        }
    }
    let note = order_note(&inputs);
    (inputs, vec![note])
}

/// Checks that the columns are the expected ones, whatever their order.
fn pick(
    inputs: Inputs,
    names: &[&str],
    required: impl Fn(&str) -> bool,
    described: &[String],
) -> Result<Vec<(String, Cells)>, Vec<Problem>> {
    let sent: std::collections::HashSet<&str> = inputs.0.iter().map(|(n, _)| n.as_str()).collect();
    let known: std::collections::HashSet<&str> = names.iter().copied().collect();
    let expected = listed(described);
    let missing = names
        .iter()
        .filter(|name| required(name) && !sent.contains(**name))
        .map(|name| Problem::column(name, "is missing"));
    let extra = inputs
        .0
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()))
        .map(|(name, _)| Problem::column(name, "is not a column of the model"));
    let mut problems: Vec<Problem> = missing.chain(extra).collect();
    if let Some(last) = problems.last_mut() {
        last.message = format!(
            "{}; the model expects {}: {expected}",
            last.message,
            counted(names.len(), "column")
        );
        return Err(problems);
    }
    Ok(inputs.0)
}

fn in_order(sent: impl Into<Inputs>, names: &[&str]) -> Inputs {
    let mut sent = sent.into();
    sent.0
        .sort_by_key(|(name, _)| names.iter().position(|n| n == name));
    sent
}

impl From<Vec<(String, Cells)>> for Inputs {
    fn from(columns: Vec<(String, Cells)>) -> Self {
        Self(columns)
    }
}

fn expect_count(inputs: &Inputs, count: usize) -> Result<(), Vec<Problem>> {
    let sent: Vec<String> = inputs.0.iter().map(|(n, _)| format!("{n:?}")).collect();
    if sent.len() == count {
        return Ok(());
    }
    Err(Problem::all(format!(
        "the model expects {}, but {} sent: {}",
        counted(count, "column"),
        if sent.len() == 1 {
            "1 was".to_owned()
        } else {
            format!("{} were", sent.len())
        },
        listed(&sent)
    )))
}

fn convert_all(
    inputs: Inputs,
    kinds: impl Iterator<Item = Kind>,
) -> Result<Vec<(String, Buffer)>, Vec<Problem>> {
    let mut taken = Vec::with_capacity(inputs.0.len());
    let mut problems = Vec::new();
    for ((name, cells), kind) in inputs.0.into_iter().zip(kinds) {
        match convert(cells, kind) {
            Ok(buffer) => taken.push((name, buffer)),
            Err(message) => problems.push(Problem::column(&name, message)),
        }
    }
    if problems.is_empty() {
        Ok(taken)
    } else {
        Err(problems)
    }
}

fn naturally(inputs: Inputs) -> Vec<(String, Buffer)> {
    inputs
        .0
        .into_iter()
        .map(|(name, cells)| (name, natural(cells)))
        .collect()
}

fn as_json(inputs: Inputs) -> Vec<(String, Buffer)> {
    inputs
        .0
        .into_iter()
        .map(|(name, cells)| (name, Buffer::Json(cells.into_values())))
        .collect()
}

fn order_note(inputs: &Inputs) -> String {
    let names: Vec<String> = inputs.0.iter().map(|(n, _)| n.clone()).collect();
    format!(
        "the model was trained without column names: columns were taken in the order they were sent ({})",
        listed(&names)
    )
}

fn fitted(frame: Frame, notes: Vec<String>) -> Fitted {
    Fitted { frame, notes }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Names in a row; beyond fifty only how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 50;
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
