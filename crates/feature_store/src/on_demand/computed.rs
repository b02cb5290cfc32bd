//! An on-demand feature view as a read uses it: what its function is given, and what comes of it.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{Field, Schema};

use super::{OnDemandView, Transforms};
use crate::dtype::Dtype;
use crate::error::Error;

/// An on-demand feature view as a read uses it.
#[derive(Debug, Clone)]
pub struct OnDemandUse {
    pub(crate) view: OnDemandView,
    /// The name under which the read knows the view.
    pub(crate) alias: String,
    pub(crate) features: Vec<(String, Dtype)>,
}

impl OnDemandUse {
    pub(crate) fn new(view: OnDemandView, alias: String) -> Self {
        Self {
            view,
            alias,
            features: Vec::new(),
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
    /// as the caller sent them, `found` the columns of features by view and name.
    ///
    /// # Errors
    /// When a value is missing that the function takes, or the function fails.
    pub(crate) async fn compute(
        &self,
        transforms: &Transforms,
        given: &RecordBatch,
        count: usize,
        found: &[(String, String, ArrayRef)],
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
        found: &[(String, String, ArrayRef)],
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
        for source in &self.view.sources {
            for feature in &source.features {
                let column = found
                    .iter()
                    .find(|(view, name, _)| *view == source.view && name == feature);
                let Some((_, _, column)) = column else {
                    continue;
                };
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
