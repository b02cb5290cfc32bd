//! Fitting what was sent to what a model takes: names, order, number and type of columns.

mod columns;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::convert::convert;
use crate::frame::{Form, Frame};
use crate::inputs::{Cells, Inputs};
use crate::signature::{Array, Column, Signature};
use columns::{
    as_json, by_known_names, convert_all, counted, equal_length, expect_count, in_order, naturally,
    order_note, pick,
};

/// What a loaded model itself knows about its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

fn fitted(frame: Frame, notes: Vec<String>) -> Fitted {
    Fitted { frame, notes }
}
