//! Columns that a request leaves to the feature store: it names the entities and the feature views,
//! the values come from the online store.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use web::ApiError;

use crate::error::Error;
use crate::fit::Problem;
use crate::inputs::Inputs;
use crate::load::Model;
use crate::signature::Signature;
use crate::tabular;

/// Looks features of entities up; the binary knows a feature store.
pub type OnlineFeatures =
    Arc<dyn Fn(FeaturesAsked) -> BoxFuture<'static, Result<FeaturesFound, ApiError>> + Send + Sync>;

/// Features of entities, one for each row.
#[derive(Debug, Clone)]
pub struct FeaturesAsked {
    /// The model that takes them, and its version.
    pub model: (String, i64),
    /// `VIEW` or `VIEW:FEATURE`.
    pub from: Vec<String>,
    /// The columns of the request: join keys are among them.
    pub entities: BTreeMap<String, Vec<Value>>,
}

/// What the online store knows of the entities.
#[derive(Debug, Clone, Default)]
pub struct FeaturesFound {
    /// The columns that said which entities are meant.
    pub join_keys: Vec<String>,
    pub features: Vec<FoundFeature>,
    /// What the caller should know, such as entities that are not there.
    pub notes: Vec<String>,
}

/// The values of one feature; null where there is none.
#[derive(Debug, Clone)]
pub struct FoundFeature {
    pub view: String,
    pub name: String,
    pub values: Vec<Value>,
}

/// The columns of a request with those that the feature store filled.
pub(crate) struct Filled {
    pub(crate) inputs: Inputs,
    pub(crate) notes: Vec<String>,
    names: Vec<String>,
}

impl Filled {
    /// A request that fills nothing.
    pub(crate) fn nothing(inputs: Inputs) -> Self {
        Self {
            inputs,
            notes: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Looks up the features that a model takes and the request lacks. Join keys that the model
    /// does not take are dropped.
    ///
    /// # Errors
    /// What the feature store refuses: a view or join key that is not there.
    pub(crate) async fn look_up(
        online: Option<&OnlineFeatures>,
        model: &Model,
        named: (String, i64),
        inputs: Inputs,
        from: Vec<String>,
    ) -> Result<Self, Error> {
        let online = online.ok_or(Error::NoFeatureStore)?;
        let entities = inputs
            .0
            .iter()
            .map(|(name, cells)| (name.clone(), cells.clone().into_values()));
        let asked = FeaturesAsked {
            model: named,
            from,
            entities: entities.collect(),
        };
        let found = online(asked)
            .await
            .map_err(|refused| Error::Features(Box::new(refused)))?;
        let joined = Self::join(&names_of(model), inputs, found);
        joined.map_err(|problem| Error::Inputs(vec![problem]))
    }

    fn join(taken: &Names, inputs: Inputs, found: FeaturesFound) -> Result<Self, Problem> {
        let mut columns = inputs.0;
        let mut names = Vec::new();
        for feature in found.features {
            let whole = format!("{}__{}", feature.view, feature.name);
            let name = match taken {
                Some(taken) if taken.contains(&whole) => whole,
                Some(taken) if !taken.contains(&feature.name) => continue,
                _ => feature.name,
            };
            // What the request itself says goes before what is known.
            if columns.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let cells = tabular::cells(feature.values)
                .map_err(|message| Problem::column(&name, message))?;
            names.push(name.clone());
            columns.push((name, cells));
        }
        let takes = |name: &String| taken.as_ref().is_some_and(|taken| taken.contains(name));
        columns.retain(|(name, _)| takes(name) || !found.join_keys.contains(name));
        Ok(Self {
            inputs: Inputs(columns),
            notes: found.notes,
            names,
        })
    }
}

/// Says of columns that came from the feature store what is known about them.
pub(crate) fn explain(error: Error, names: &[String], notes: &[String]) -> Error {
    let Error::Inputs(mut problems) = error else {
        return error;
    };
    for problem in &mut problems {
        let filled = |column: &String| names.contains(column);
        if problem.column.as_ref().is_some_and(filled) {
            let known = [
                vec!["it came from the online store".to_owned()],
                notes.to_vec(),
            ];
            problem.message = format!("{} ({})", problem.message, known.concat().join("; "));
        }
    }
    Error::Inputs(problems)
}

impl Filled {
    /// Parts with the inputs, keeping what explains a refusal of them.
    pub(crate) fn apart(self) -> (Inputs, Vec<String>, Vec<String>) {
        (self.inputs, self.names, self.notes)
    }
}

/// The names of the columns that a model takes; none when it takes them by their order.
type Names = Option<Vec<String>>;

fn names_of(model: &Model) -> Names {
    match &model.described.signature {
        Signature::Columns(columns) => columns.iter().map(|c| c.name.clone()).collect(),
        Signature::Arrays(arrays) => Some(arrays.iter().map(|(name, _)| name.clone()).collect()),
        Signature::Array(_) | Signature::Absent => model.facts.features.names.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(features: &[(&str, &str, Value)]) -> FeaturesFound {
        let features = features.iter().map(|(view, name, values)| FoundFeature {
            view: (*view).to_owned(),
            name: (*name).to_owned(),
            values: values.as_array().unwrap().clone(),
        });
        FeaturesFound {
            join_keys: vec!["id".to_owned()],
            features: features.collect(),
            notes: Vec::new(),
        }
    }

    fn names(taken: Names, sent: &str, found: FeaturesFound) -> Vec<String> {
        let sent: Inputs = serde_json::from_str(sent).unwrap();
        let filled = Filled::join(&taken, sent, found).unwrap();
        filled.inputs.0.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn features_that_the_model_takes_are_added_and_the_key_is_dropped() {
        let taken = Some(vec!["a".to_owned(), "v__b".to_owned(), "c".to_owned()]);
        let there = || {
            found(&[
                ("v", "a", json!([1.5])),
                ("v", "b", json!([null])),
                ("v", "other", json!(["x"])),
            ])
        };
        assert_eq!(
            names(taken.clone(), r#"{"id":[1],"c":[2]}"#, there()),
            ["c", "a", "v__b"]
        );
        // A model may learn from the key, and a caller may know better.
        let with_key = Some(vec!["id".to_owned(), "a".to_owned()]);
        assert_eq!(
            names(with_key, r#"{"id":[1],"a":[9]}"#, there()),
            ["id", "a"]
        );
        assert_eq!(names(None, r#"{"id":[1]}"#, there()), ["a", "b", "other"]);
    }

    #[test]
    fn a_refused_column_says_where_it_came_from() {
        let refused = Error::Inputs(vec![Problem::column("a", "is null")]);
        let notes = ["view 'v' knows nothing of id 9".to_owned()];
        let Error::Inputs(problems) = explain(refused, &["a".to_owned()], &notes) else {
            panic!("another error");
        };
        assert!(
            problems[0].message.contains("knows nothing of id 9"),
            "{problems:?}"
        );
    }
}
