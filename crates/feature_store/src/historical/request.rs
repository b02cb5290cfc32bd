//! What a read asks for: features by reference or by service, resolved to views.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{EntityRows, widths};
use crate::FeatureStore;
use crate::answers::bytes_of;
use crate::error::{Error, Kind};
use crate::feature_view::FeatureView;
use crate::on_demand::{OnDemandUse, SourceFeatures};
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
    /// How many of the features, the last ones, are read for on-demand views and not answered.
    pub hidden: usize,
    /// The snapshot of the table to read; absent: the newest.
    pub snapshot: Option<i64>,
    /// Whether the table had no snapshot when the read began: rows that came since are not read.
    pub(super) was_empty: bool,
}

/// The views that a read names; those that on-demand views take features of are among them.
#[derive(Debug, Clone, Default)]
pub struct Views {
    pub views: Vec<ViewUse>,
    pub on_demand: Vec<OnDemandUse>,
}

/// A point-in-time read.
#[derive(Debug, Clone)]
pub struct HistoricalRequest {
    pub entities: EntityRows,
    pub views: Views,
    /// Whether columns are called `view__feature` rather than `feature`.
    pub full_feature_names: bool,
}

impl HistoricalRequest {
    /// About how many bytes the answer takes, of whose views a row takes `views` in all.
    pub(super) fn bytes(&self, views: usize) -> usize {
        let computed = self.views.on_demand.iter().flat_map(|used| &used.features);
        let computed = computed.map(|(_, dtype)| widths::of_dtype(*dtype));
        let row = views.saturating_add(computed.sum());
        let features = row.saturating_mul(self.entities.len());
        bytes_of(&self.entities.batch).saturating_add(features)
    }
}

impl ViewUse {
    pub(crate) fn new(view: FeatureView, alias: String) -> Self {
        Self {
            view,
            alias,
            join_key_map: BTreeMap::new(),
            features: Vec::new(),
            hidden: 0,
            snapshot: None,
            was_empty: false,
        }
    }

    /// Has the view read as it was when it was first read.
    pub(super) fn pin(&mut self, snapshot: Option<i64>) {
        self.snapshot = snapshot;
        self.was_empty = snapshot.is_none();
    }

    /// Has features read that are not answered, unless they are asked for too.
    ///
    /// # Errors
    /// When the view has no such feature.
    fn also(&mut self, features: &[String]) -> Result<(), Error> {
        for feature in features {
            self.view.feature(feature)?;
            if !self.features.contains(feature) {
                self.features.push(feature.clone());
                self.hidden += 1;
            }
        }
        Ok(())
    }

    /// The features that are answered.
    pub(crate) fn answered(&self) -> &[String] {
        &self.features[..self.features.len() - self.hidden]
    }

    /// What a join key of the view is called in the entity rows.
    pub(crate) fn key_name<'k>(&'k self, key: &'k String) -> &'k String {
        self.join_key_map.get(key).unwrap_or(key)
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
    pub async fn resolve(&self, project: &str, refs: &[FeatureRef]) -> Result<Views, Error> {
        let mut found = Views::default();
        for asked in refs {
            let named = |used: &OnDemandUse| used.alias == asked.view;
            if let Some(used) = found.on_demand.iter_mut().find(|used| named(used)) {
                used.ask(&asked.feature)?;
                continue;
            }
            let index = match found.views.iter().position(|v| v.alias == asked.view) {
                Some(index) => index,
                None => {
                    if let Some(view) = self.find_on_demand(project, &asked.view).await? {
                        let mut used = OnDemandUse::new(view, asked.view.clone());
                        used.ask(&asked.feature)?;
                        found.on_demand.push(used);
                        continue;
                    }
                    let view = self.feature_view(project, &asked.view).await?;
                    found.views.push(ViewUse::new(view, asked.view.clone()));
                    found.views.len() - 1
                }
            };
            let view = &mut found.views[index];
            view.view.feature(&asked.feature)?;
            if !view.features.contains(&asked.feature) {
                view.features.push(asked.feature.clone());
            }
        }
        self.with_sources(project, found).await
    }

    /// The views of a feature service, with the columns, alias and key names that it fixed.
    ///
    /// # Errors
    /// When the service, or a view or feature that it names, is not there.
    pub async fn resolve_service(&self, project: &str, name: &str) -> Result<Views, Error> {
        let row = self.object(project, Kind::FeatureService, name).await?;
        let service = proto::FeatureService::decode(&*row.spec)?;
        let mut found = Views::default();
        for projection in service.spec.map(|spec| spec.features).unwrap_or_default() {
            let name = projection.feature_view_name;
            let alias = Some(projection.feature_view_name_alias).filter(|alias| !alias.is_empty());
            let alias = alias.unwrap_or_else(|| name.clone());
            if let Some(view) = self.find_on_demand(project, &name).await? {
                let mut used = OnDemandUse::new(view, alias);
                for column in projection.feature_columns {
                    used.ask(&column.name)?;
                }
                found.on_demand.push(used);
                continue;
            }
            let view = self.feature_view(project, &name).await?;
            if projection.feature_columns.is_empty() {
                continue;
            }
            let mut used = ViewUse::new(view, alias);
            used.join_key_map = projection.join_key_map.into_iter().collect();
            for column in projection.feature_columns {
                used.view.feature(&column.name)?;
                used.features.push(column.name);
            }
            found.views.push(used);
        }
        self.with_sources(project, found).await
    }

    /// Adds what on-demand views take of others: behind the features that were asked for, or as a
    /// view more. A view under another name is only taken where it is about the same entities.
    ///
    /// # Errors
    /// When a source is not there, or lacks a feature.
    pub(crate) async fn with_sources(
        &self,
        project: &str,
        mut found: Views,
    ) -> Result<Views, Error> {
        let Views { views, on_demand } = &mut found;
        for used in on_demand {
            used.read_from.clear();
            for source in &used.view.sources {
                let index = match place_of(source, views) {
                    Some(index) => index,
                    None => {
                        let view = self.feature_view(project, &source.view).await?;
                        let mut more = ViewUse::new(view, source.view.clone());
                        more.join_key_map.clone_from(&source.join_key_map);
                        views.push(more);
                        views.len() - 1
                    }
                };
                used.read_from.push(index);
                views[index].also(&source.features)?;
            }
        }
        Ok(found)
    }
}

/// Where a source is among the views of a read: under its own name, else under another one.
fn place_of(source: &SourceFeatures, views: &[ViewUse]) -> Option<usize> {
    let same =
        |used: &ViewUse| used.view.name == source.view && used.join_key_map == source.join_key_map;
    let own = |used: &ViewUse| same(used) && used.alias == source.view;
    views
        .iter()
        .position(own)
        .or_else(|| views.iter().position(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_under_its_own_name_or_another_one_and_never_about_other_entities() {
        let used = |alias: &str, key: Option<&str>| {
            let spec = proto::FeatureViewSpec {
                name: "stats".to_owned(),
                ..proto::FeatureViewSpec::default()
            };
            let view = proto::FeatureView {
                spec: Some(spec),
                meta: None,
            };
            let mut used = ViewUse::new(FeatureView::from_proto(&view).unwrap(), alias.to_owned());
            let map = key.map(|key| ("id".to_owned(), key.to_owned()));
            used.join_key_map.extend(map);
            used
        };
        let source = SourceFeatures {
            view: "stats".to_owned(),
            join_key_map: BTreeMap::new(),
            features: Vec::new(),
        };
        let other = used("other", Some("other_id"));
        let renamed = used("renamed", None);
        let own = used("stats", None);
        let place = |views: &[ViewUse]| place_of(&source, views);
        assert_eq!(place(std::slice::from_ref(&other)), None);
        assert_eq!(place(&[other.clone(), renamed.clone()]), Some(1));
        assert_eq!(place(&[other, renamed, own]), Some(2));
    }
}
