//! The views that an online read names, looked up once a second at most: a read that is answered
//! from memory cannot wait for a database.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use prost::Message as _;

use super::view::ViewRows;
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::historical::{FeatureRef, ViewUse, Views};
use crate::on_demand::OnDemandUse;
use crate::proto;

/// How long a look-up holds. What this server changes is seen at once; other servers of the same
/// database may change definitions too.
const HOLDS: Duration = Duration::from_secs(1);

/// How many look-ups are kept.
const KEPT: usize = 1024;

/// A view as an online read uses it, with its rows.
pub(crate) struct Resolved {
    pub(crate) used: ViewUse,
    pub(crate) rows: Arc<ViewRows>,
    /// The names of its features in the answer.
    pub(crate) names: Vec<String>,
    /// For each list of features that rows may follow, where each feature is in it.
    places: RwLock<Vec<Arc<[Option<usize>]>>>,
}

impl Resolved {
    /// Where the features are in rows of a layout.
    pub(crate) fn places(&self, layout: u32) -> Option<Arc<[Option<usize>]>> {
        let layout = layout as usize;
        let known = {
            let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
            places.get(layout).cloned()
        };
        known.or_else(|| {
            let about = self.rows.about();
            let features = &self.used.features;
            let place = |names: &Vec<String>, feature| names.iter().position(|n| n == feature);
            let all = about.layouts.iter().map(|names| {
                let places = features.iter().map(|feature| place(names, feature));
                places.collect::<Arc<[_]>>()
            });
            let all: Vec<_> = all.collect();
            let found = all.get(layout).cloned();
            *self.places.write().unwrap_or_else(PoisonError::into_inner) = all;
            found
        })
    }
}

/// Look-ups by what was asked for.
#[derive(Default)]
pub(crate) struct Cache(RwLock<HashMap<Asked, Found>>);

type Found = (Instant, Arc<ResolvedViews>);

/// The views that a read names, and those that on-demand views take features of.
pub(crate) struct ResolvedViews {
    pub(crate) views: Vec<Resolved>,
    pub(crate) on_demand: Vec<OnDemandUse>,
    /// The join keys of the project's entities, by their names.
    pub(crate) join_keys: HashMap<String, String>,
}

/// What a read asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) project: String,
    pub(crate) features: Vec<String>,
    pub(crate) feature_service: Option<String>,
    pub(crate) full_feature_names: bool,
    /// Whether a view alone stands for all its features.
    pub(crate) whole_views: bool,
}

impl Cache {
    fn get(&self, asked: &Asked) -> Option<Arc<ResolvedViews>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = known.get(asked)?;
        (since.elapsed() < HOLDS).then(|| found.clone())
    }

    fn set(&self, asked: Asked, found: Arc<ResolvedViews>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, (since, _)| since.elapsed() < HOLDS);
        }
        if known.len() < KEPT {
            known.insert(asked, (Instant::now(), found));
        }
    }

    pub(crate) fn clear(&self) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl FeatureStore {
    /// The views that an online read names, with their rows.
    ///
    /// # Errors
    /// When one is not there, or two features would have the same name.
    pub(crate) async fn resolve_online(&self, asked: Asked) -> Result<Arc<ResolvedViews>, Error> {
        if let Some(found) = self.online.0.resolved.get(&asked) {
            return Ok(found);
        }
        let project = &*asked.project;
        let views = match (&asked.feature_service, asked.features.as_slice()) {
            (Some(service), []) => self.resolve_service(project, service).await?,
            (None, refs) if !refs.is_empty() => {
                let mut parsed = Vec::new();
                for text in refs {
                    if asked.whole_views && !text.contains(':') {
                        let view = self.feature_view(project, text).await?;
                        parsed.extend(view.features.into_iter().map(|feature| FeatureRef {
                            view: text.clone(),
                            feature: feature.name,
                        }));
                    } else {
                        parsed.push(FeatureRef::parse(text)?);
                    }
                }
                self.resolve(project, &parsed).await?
            }
            _ => return Err(Error::nothing_asked()),
        };
        let Views { views, on_demand } = views;
        let full = asked.full_feature_names;
        let mut found = Vec::new();
        let mut taken: Vec<String> = Vec::new();
        for used in &on_demand {
            for (feature, _) in &used.features {
                let name = used.answer_name(feature, full);
                if taken.contains(&name) {
                    return Err(Error::same_name(&name));
                }
                taken.push(name);
            }
        }
        for used in views {
            used.view.check_enabled()?;
            let names = used.answered().iter().map(|feature| {
                let name = used.answer_name(feature, full);
                if taken.contains(&name) {
                    return Err(Error::same_name(&name));
                }
                taken.push(name.clone());
                Ok(name)
            });
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let rows = self.online.rows(project, &used.view.name).await?;
            found.push(Resolved {
                used,
                rows,
                names,
                places: RwLock::default(),
            });
        }
        let found = Arc::new(ResolvedViews {
            views: found,
            on_demand,
            join_keys: self.join_keys(project).await?,
        });
        self.online.0.resolved.set(asked, found.clone());
        Ok(found)
    }

    async fn join_keys(&self, project: &str) -> Result<HashMap<String, String>, Error> {
        let entities = self.objects(project, Kind::Entity).await?;
        let keys = entities.iter().map(|row| {
            let spec = proto::Entity::decode(&*row.spec)?.spec.unwrap_or_default();
            Ok((spec.name, spec.join_key))
        });
        keys.collect()
    }
}
