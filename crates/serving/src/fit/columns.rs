//! The columns of a request before they are fitted: counted, named, ordered, converted.

use std::collections::HashSet;

use super::{Features, Problem};
use crate::convert::{convert, natural};
use crate::frame::Buffer;
use crate::inputs::{Cells, Inputs};
use crate::signature::Kind;

/// How many rows all columns have.
pub(super) fn equal_length(inputs: &Inputs) -> Result<usize, Vec<Problem>> {
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

/// Checks that the columns are the expected ones, whatever their order.
pub(super) fn pick(
    inputs: Inputs,
    names: &[&str],
    required: impl Fn(&str) -> bool,
    described: &[String],
) -> Result<Vec<(String, Cells)>, Vec<Problem>> {
    let sent: HashSet<&str> = inputs.0.iter().map(|(n, _)| n.as_str()).collect();
    let known: HashSet<&str> = names.iter().copied().collect();
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

/// Sorts columns by the model's names if exactly those were sent, else takes them as they came.
pub(super) fn by_known_names(inputs: Inputs, features: &Features) -> (Inputs, Vec<String>) {
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

/// Sorts columns by names.
pub(super) fn in_order(sent: impl Into<Inputs>, names: &[&str]) -> Inputs {
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

/// Checks the number of columns.
pub(super) fn expect_count(inputs: &Inputs, count: usize) -> Result<(), Vec<Problem>> {
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

/// Converts columns to one kind each.
pub(super) fn convert_all(
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

/// Gives columns the type that their values have by themselves.
pub(super) fn naturally(inputs: Inputs) -> Vec<(String, Buffer)> {
    inputs
        .0
        .into_iter()
        .map(|(name, cells)| (name, natural(cells)))
        .collect()
}

/// Leaves the values of columns as they came.
pub(super) fn as_json(inputs: Inputs) -> Vec<(String, Buffer)> {
    inputs
        .0
        .into_iter()
        .map(|(name, cells)| (name, Buffer::Json(cells.into_values())))
        .collect()
}

/// Tells that columns were taken by their order.
pub(super) fn order_note(inputs: &Inputs) -> String {
    let names: Vec<String> = inputs.0.iter().map(|(n, _)| n.clone()).collect();
    format!(
        "the model was trained without column names: columns were taken in the order they were sent ({})",
        listed(&names)
    )
}

/// A number with its noun.
pub(super) fn counted(count: usize, noun: &str) -> String {
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
