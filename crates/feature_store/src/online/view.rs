//! The rows of one view in memory, by the entity's key.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::Value;

use super::about::About;
use super::row::Row;
use super::value;
use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::feature_view::FeatureView;

/// In how many parts the rows are, so that a load of rows does not hold up reads.
const PARTS: usize = 64;

type Part = RwLock<HashMap<Box<[u8]>, Row, ahash::RandomState>>;

/// The rows of a view.
pub(crate) struct ViewRows {
    /// `PROJECT/VIEW`.
    name: String,
    hasher: ahash::RandomState,
    parts: Vec<Part>,
    about: Mutex<About>,
}

impl ViewRows {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            hasher: ahash::RandomState::new(),
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            about: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn part(&self, key: &[u8]) -> &Part {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Row> {
        let part = self
            .part(key)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        part.get(key).cloned()
    }

    pub(crate) fn set(&self, key: Box<[u8]>, row: Row) {
        let mut part = self
            .part(&key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        part.insert(key, row);
    }

    /// Removes the rows; what is known of them since is `about`, but for lists of features that
    /// were added meanwhile.
    pub(crate) fn clear(&self, since: About) {
        for part in &self.parts {
            part.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let mut about = self.about();
        let layouts = std::mem::take(&mut about.layouts);
        *about = About { layouts, ..since };
    }

    pub(crate) fn len(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .map(|part| part.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// What the rows are about.
    pub(crate) fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the list of features that a view has now.
    pub(crate) fn layout(&self, view: &FeatureView, generation: u64) -> Option<u32> {
        self.about().layout(view, generation)
    }
}

/// A number as text and a text of digits become the key that they mean.
pub(crate) fn as_key(dtype: Dtype, value: &mut Value) {
    let meant = match (dtype, &*value) {
        (Dtype::Scalar(Scalar::Int32 | Scalar::Int64), Value::String(text)) => {
            text.parse::<i64>().ok().map(Value::from)
        }
        (Dtype::Scalar(Scalar::String), Value::Number(number)) if number.is_i64() => {
            Some(Value::String(number.to_string()))
        }
        _ => None,
    };
    if let Some(meant) = meant {
        *value = meant;
    }
}

/// Appends the value of one join key, as JSON has it, to a key. A null is no key.
///
/// # Errors
/// When it can never be a key of the view.
pub(crate) fn push_key(
    name: &str,
    dtype: Dtype,
    given: &Value,
    key: &mut Vec<u8>,
) -> Result<bool, Error> {
    let wrong = |what: &str| {
        Err(Error::Invalid(format!(
            "join key {name:?}: {given} is no {what}"
        )))
    };
    match (dtype, given) {
        (_, Value::Null) => return Ok(false),
        (Dtype::Scalar(Scalar::Int32 | Scalar::Int64), _) => match value::whole(given) {
            Some(whole) => value::push_whole(whole, key),
            None => return wrong("whole number"),
        },
        (Dtype::Scalar(scalar), _) => {
            if let Err(problem) = value::encode_json(Dtype::Scalar(scalar), given, key) {
                return Err(Error::Invalid(format!("join key {name:?}: {problem}")));
            }
        }
        // Definitions of some SDKs do not tell the types of join keys.
        (_, Value::String(text)) => value::push_text(text, key),
        (_, Value::Number(_)) => match value::whole(given) {
            Some(whole) => value::push_whole(whole, key),
            None => return wrong("whole number or text"),
        },
        _ => return wrong("whole number or text"),
    }
    Ok(true)
}
