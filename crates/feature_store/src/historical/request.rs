//! What a read asks for: features by reference or by service, resolved to views.

use std::collections::BTreeMap;

use prost::Message as _;

use super::EntityRows;
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::feature_view::FeatureView;
use crate::proto;

/// A feature by name: `view:feature`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureRef {
    pub view: String,
    pub feature: String,
}

impl FeatureRef {
    /// Reads `view:feature`.
    ///
    /// # Errors
    /// [`Error::Invalid`] shows the form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some((view, feature)) if !view.is_empty() && !feature.is_empty() => Ok(Self {
                view: view.to_owned(),
                feature: feature.to_owned(),
            }),
            _ => Err(Error::Invalid(format!(
                "{text:?} names no feature; write VIEW:FEATURE, such as customer_features:total_orders"
            ))),
        }
    }
}

/// A view as a read uses it.
#[derive(Debug, Clone)]
pub struct ViewUse {
    pub view: FeatureView,
    /// The name under which the read knows the view.
    pub alias: String,
    /// Join key of the view to column of the entity rows, where they differ.
    pub join_key_map: BTreeMap<String, String>,
    pub features: Vec<String>,
    /// The snapshot of the table to read; absent: the newest.
    pub snapshot: Option<i64>,
}

/// A point-in-time read.
#[derive(Debug, Clone)]
pub struct HistoricalRequest {
    pub entities: EntityRows,
    pub views: Vec<ViewUse>,
    /// Whether columns are called `view__feature` rather than `feature`.
    pub full_feature_names: bool,
}

impl ViewUse {
    pub(crate) fn new(view: FeatureView, alias: String) -> Self {
        Self {
            view,
            alias,
            join_key_map: BTreeMap::new(),
            features: Vec::new(),
            snapshot: None,
        }
    }

    /// What a feature is called in an answer.
    pub(crate) fn answer_name(&self, feature: &str, full: bool) -> String {
        if full {
            format!("{}__{feature}", self.alias)
        } else {
            feature.to_owned()
        }
    }
}

impl FeatureStore {
    /// Finds the views of references, in the order in which they are first named.
    ///
    /// # Errors
    /// When a view or feature is not there; what is there is listed.
    pub async fn resolve(&self, project: &str, refs: &[FeatureRef]) -> Result<Vec<ViewUse>, Error> {
        let mut views: Vec<ViewUse> = Vec::new();
        for asked in refs {
            let index = match views.iter().position(|v| v.alias == asked.view) {
                Some(index) => index,
                None => {
                    let view = self.feature_view(project, &asked.view).await?;
                    views.push(ViewUse::new(view, asked.view.clone()));
                    views.len() - 1
                }
            };
            let view = &mut views[index];
            view.view.feature(&asked.feature)?;
            if !view.features.contains(&asked.feature) {
                view.features.push(asked.feature.clone());
            }
        }
        Ok(views)
    }

    /// The views of a feature service, with the columns, alias and key names that it fixed.
    ///
    /// # Errors
    /// When the service, or a view or feature that it names, is not there.
    pub async fn resolve_service(&self, project: &str, name: &str) -> Result<Vec<ViewUse>, Error> {
        let row = self.object(project, Kind::FeatureService, name).await?;
        let service = proto::FeatureService::decode(&*row.spec)?;
        let mut views = Vec::new();
        for projection in service.spec.map(|spec| spec.features).unwrap_or_default() {
            let view = self
                .feature_view(project, &projection.feature_view_name)
                .await?;
            let alias = Some(projection.feature_view_name_alias).filter(|alias| !alias.is_empty());
            let alias = alias.unwrap_or(projection.feature_view_name);
            let mut used = ViewUse::new(view, alias);
            used.join_key_map = projection.join_key_map.into_iter().collect();
            for column in projection.feature_columns {
                used.view.feature(&column.name)?;
                used.features.push(column.name);
            }
            views.push(used);
        }
        Ok(views)
    }
}
