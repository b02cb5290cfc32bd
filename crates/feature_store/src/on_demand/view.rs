//! What an on-demand feature view is: its sources, its features, its function.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::FeatureStore;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::proto;

use super::ON_DEMAND;

/// An on-demand feature view.
#[derive(Debug, Clone)]
pub struct OnDemandView {
    pub(crate) name: String,
    pub(crate) features: Vec<(String, Dtype)>,
    /// The features of other views that its function takes.
    pub(crate) sources: Vec<SourceFeatures>,
    /// The values that a request brings, by name.
    pub(crate) request: Vec<(String, Dtype)>,
    pub(crate) function: Function,
}

/// The features that a function takes of one view.
#[derive(Debug, Clone)]
pub(crate) struct SourceFeatures {
    pub(crate) view: String,
    pub(crate) join_key_map: BTreeMap<String, String>,
    pub(crate) features: Vec<String>,
}

/// A function of the user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// What dill made of it.
    pub(crate) body: Vec<u8>,
    pub(crate) text: String,
    /// `pandas` or `python`.
    pub(crate) mode: String,
    /// Whether it takes one row at a time.
    pub(crate) singleton: bool,
}

impl OnDemandView {
    /// Reads a definition.
    ///
    /// # Errors
    /// When it is no definition, or wants what asgard does not do.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let spec = proto::OnDemandView::decode(bytes)?.spec.unwrap_or_default();
        let name = spec.name.clone();
        let function = function(&spec)?;
        let mut given: Vec<(String, proto::OnDemandSource)> = spec.sources.into_iter().collect();
        given.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut sources, mut request) = (Vec::new(), Vec::new());
        for (_, source) in given {
            let projection = source
                .projection
                .or_else(|| source.feature_view.map(projected));
            if let Some(projection) = projection {
                sources.push(SourceFeatures {
                    view: projection.feature_view_name,
                    join_key_map: projection.join_key_map.into_iter().collect(),
                    features: names(projection.feature_columns),
                });
            } else if let Some(given) = source.request.and_then(|source| source.request_data) {
                request.extend(typed(given.schema));
            }
        }
        Ok(Self {
            name,
            features: typed(spec.features),
            sources,
            request,
            function,
        })
    }

    /// The type of a feature.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`] lists those that there are.
    pub(crate) fn feature(&self, name: &str) -> Result<Dtype, Error> {
        let found = self.features.iter().find(|(known, _)| known == name);
        let known = || self.features.iter().map(|(name, _)| name.clone()).collect();
        found
            .map(|(_, dtype)| *dtype)
            .ok_or_else(|| Error::UnknownFeature {
                view: self.name.clone(),
                feature: name.to_owned(),
                known: known(),
            })
    }
}

/// A feature view that stands whole in a definition of old SDKs, as its projection.
fn projected(view: proto::FeatureView) -> proto::Projection {
    let spec = view.spec.unwrap_or_default();
    proto::Projection {
        feature_view_name: spec.name,
        feature_columns: spec.features,
        ..proto::Projection::default()
    }
}

fn names(columns: Vec<proto::FeatureSpec>) -> Vec<String> {
    columns.into_iter().map(|column| column.name).collect()
}

fn typed(columns: Vec<proto::FeatureSpec>) -> Vec<(String, Dtype)> {
    let columns = columns.into_iter();
    columns
        .map(|column| (column.name, Dtype::from_number(column.value_type)))
        .collect()
}

fn function(spec: &proto::OnDemandSpec) -> Result<Function, Error> {
    let unsupported = |what: &str| {
        Err(Error::Unsupported(format!(
            "on-demand feature view '{}' {what}: asgard runs functions of mode \"pandas\" and \"python\"",
            spec.name
        )))
    };
    if !spec.aggregations.is_empty() {
        return unsupported("has aggregations, which are not computed");
    }
    let given = spec.feature_transformation.as_ref();
    if given.is_some_and(|given| given.substrait.is_some()) {
        return unsupported("is a Substrait plan, which is not run");
    }
    let given = given.and_then(|given| given.function.as_ref());
    // SDKs that are older keep it beside.
    let usable =
        |function: &&proto::Function| !function.body.is_empty() || !function.body_text.is_empty();
    let Some(given) = given.filter(usable).or(spec.function.as_ref()) else {
        return unsupported("has no function");
    };
    let mode = match spec.mode.as_str() {
        "" => "pandas",
        mode @ ("pandas" | "python") => mode,
        mode => return unsupported(&format!("is of mode {mode:?}")),
    };
    Ok(Function {
        name: given.name.clone(),
        body: given.body.clone(),
        text: given.body_text.clone(),
        mode: mode.to_owned(),
        singleton: spec.singleton,
    })
}

impl FeatureStore {
    /// The on-demand feature view of that name, if there is one.
    ///
    /// # Errors
    /// When its definition wants what asgard does not do.
    pub(crate) async fn find_on_demand(
        &self,
        project: &str,
        name: &str,
    ) -> Result<Option<OnDemandView>, Error> {
        let found = self.find_object(project, ON_DEMAND, name).await?;
        found.map(|row| OnDemandView::parse(&row.spec)).transpose()
    }
}
