//! An on-demand feature view as a read uses it: what its function is given, and what comes of it.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{Field, Schema};

use super::{OnDemandView, Transforms};
use crate::dtype::Dtype;
use crate::error::Error;

/// The features of one view that a read has, by name.
pub(crate) type ViewColumns = Vec<(String, ArrayRef)>;

/// An on-demand feature view as a read uses it.
#[derive(Debug, Clone)]
pub struct OnDemandUse {
    pub(crate) view: OnDemandView,
    /// The name under which the read knows the view.
    pub(crate) alias: String,
    pub(crate) features: Vec<(String, Dtype)>,
    /// For each source the place of its view among those of the read, which may have the same view
    /// several times, about other entities.
    pub(crate) read_from: Vec<usize>,
}

impl OnDemandUse {
    pub(crate) fn new(view: OnDemandView, alias: String) -> Self {
        Self {
            view,
            alias,
            features: Vec::new(),
            read_from: Vec::new(),
        }
    }

    /// Asks for a feature; twice is once.
    ///
    /// # Errors
    /// When the view has no such feature.
    pub(crate) fn ask(&mut self, feature: &str) -> Result<(), Error> {
        let dtype = self.view.feature(feature)?;
        if !self.features.iter().any(|(known, _)| known == feature) {
            self.features.push((feature.to_owned(), dtype));
        }
        Ok(())
    }

    /// What a feature is called in an answer.
    pub(crate) fn answer_name(&self, feature: &str, full: bool) -> String {
        if full {
            format!("{}__{feature}", self.alias)
        } else {
            feature.to_owned()
        }
    }

    /// Computes its features, in the order in which they were asked for. `given` are the `count` rows
    /// as the caller sent them, `found` the features of each view of the read.
    ///
    /// # Errors
    /// When a value is missing that the function takes, or the function fails.
    pub(crate) async fn compute(
        &self,
        transforms: &Transforms,
        given: &RecordBatch,
        count: usize,
        found: &[ViewColumns],
    ) -> Result<Vec<ArrayRef>, Error> {
        let rows = self.rows(given, count, found)?;
        let computed = transforms.run(&self.view, &self.features, rows).await?;
        let columns = self.features.iter().map(|(name, dtype)| {
            let column = computed.column_by_name(name).cloned();
            let column = column.filter(|column| column.len() == count);
            let column =
                column.ok_or_else(|| self.wrong(format!("its worker gave no {name:?}")))?;
            let Some(kind) = dtype.arrow_type() else {
                return Ok(column);
            };
            let cast = cast_with_options(&column, &kind, &strict());
            cast.map_err(|error| self.wrong(format!("feature {name:?} is no {dtype}: {error}")))
        });
        columns.collect()
    }

    fn wrong(&self, what: String) -> Error {
        Error::Transform {
            view: self.view.name.clone(),
            what,
            help: None,
        }
    }

    /// What the function is given: the caller's columns, and of each source its features, under
    /// their names and as `VIEW__FEATURE`, as Feast does it.
    fn rows(
        &self,
        given: &RecordBatch,
        count: usize,
        found: &[ViewColumns],
    ) -> Result<RecordBatch, Error> {
        let schema = given.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        let mut columns: Vec<(String, ArrayRef)> =
            names.zip(given.columns().iter().cloned()).collect();
        for (name, dtype) in &self.view.request {
            let column = columns.iter_mut().find(|(known, _)| known == name);
            let (_, column) = column.ok_or_else(|| Error::RequestData {
                view: self.view.name.clone(),
                name: name.clone(),
            })?;
            if let Some(kind) = dtype.arrow_type() {
                let cast = cast_with_options(column, &kind, &strict());
                *column = cast.map_err(Error::value(format!(
                    "column {name:?}, which on-demand feature view '{}' takes, is no {dtype}",
                    self.view.name
                )))?;
            }
        }
        for (source, index) in self.view.sources.iter().zip(&self.read_from) {
            let read = found.get(*index).into_iter().flatten();
            for (feature, column) in read.filter(|(name, _)| source.features.contains(name)) {
                for name in [feature.clone(), format!("{}__{feature}", source.view)] {
                    if !columns.iter().any(|(known, _)| *known == name) {
                        columns.push((name, column.clone()));
                    }
                }
            }
        }
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        let columns: Vec<ArrayRef> = columns.into_iter().map(|(_, column)| column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::new(Schema::new(fields));
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

fn strict() -> CastOptions<'static> {
    CastOptions {
        safe: false,
        ..CastOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;

    use super::*;
    use crate::on_demand::{Function, SourceFeatures};

    #[test]
    fn a_function_gets_the_rows_of_its_own_source_and_not_of_the_same_view_under_an_alias() {
        let mut used = OnDemandUse::new(
            OnDemandView {
                name: "doubled".to_owned(),
                features: Vec::new(),
                sources: vec![SourceFeatures {
                    view: "stats".to_owned(),
                    join_key_map: std::collections::BTreeMap::new(),
                    features: vec!["trips".to_owned()],
                }],
                request: Vec::new(),
                function: Function {
                    name: "doubled".to_owned(),
                    body: Vec::new(),
                    text: String::new(),
                    mode: "pandas".to_owned(),
                    singleton: false,
                },
            },
            "doubled".to_owned(),
        );
        let trips = |value: i64| -> ViewColumns {
            vec![("trips".to_owned(), Arc::new(Int64Array::from(vec![value])))]
        };
        let given = RecordBatch::new_empty(Arc::new(Schema::empty()));
        for (place, trips_of) in [(0, 3), (1, 7)] {
            used.read_from = vec![place];
            let rows = used.rows(&given, 1, &[trips(3), trips(7)]).unwrap();
            for name in ["trips", "stats__trips"] {
                let column = rows.column_by_name(name).unwrap();
                assert_eq!(column.as_primitive::<Int64Type>().value(0), trips_of);
            }
        }
    }
}
