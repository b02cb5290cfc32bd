//! Feature views as REST defines them: checked against their tables, created, or put in the place of
//! what was there.

use prost::Message as _;

use super::kind::VIEW_KINDS;
use super::objects::write;
use super::{PROJECT, view};
use crate::FeatureStore;
use crate::definition::NewFeatureView;
use crate::dtype::Dtype;
use crate::error::{Error, Kind};
use crate::feature_view::{self, FeatureView};
use crate::proto;
use crate::store::objects;
use crate::table;

/// What became of a definition.
#[derive(Debug, Clone)]
pub struct Defined {
    pub view: FeatureView,
    /// The view of that name that was there.
    pub before: Option<FeatureView>,
    /// Whether the one that was there has the same definition.
    pub same: bool,
}

/// A definition that fits its table.
struct Checked {
    view: FeatureView,
    key_types: Vec<Dtype>,
    message: proto::FeatureView,
}

impl FeatureStore {
    /// Creates a feature view, its entities and its data source. The same definition again
    /// changes nothing.
    ///
    /// # Errors
    /// When the table is not there, does not fit, or the name is taken by another definition.
    pub async fn create_feature_view(
        &self,
        new: NewFeatureView,
        now: i64,
    ) -> Result<Defined, Error> {
        let checked = self.checked(new).await?;
        let mut tx = self.db.begin().await?;
        if let Some(found) = there(&mut tx, &checked).await? {
            if found.same {
                return Ok(found);
            }
            return Err(Error::Exists {
                kind: Kind::FeatureView,
                name: checked.view.name,
            });
        }
        define(&mut tx, &checked, now).await?;
        tx.commit().await?;
        self.online.definitions_changed();
        Ok(Defined::new(checked.view, None, now))
    }

    /// Creates a feature view, or puts the definition in the place of the one that was there. With
    /// `dry_run` it only tells what would become of it.
    ///
    /// # Errors
    /// When the table is not there or does not fit, and when a feature service names a feature that
    /// would be gone.
    pub async fn replace_feature_view(
        &self,
        new: NewFeatureView,
        dry_run: bool,
        now: i64,
    ) -> Result<Defined, Error> {
        let checked = self.checked(new).await?;
        self.check_services(&checked.view).await?;
        let mut tx = self.db.begin().await?;
        let before = match there(&mut tx, &checked).await? {
            Some(found) if found.same => return Ok(found),
            found => found.and_then(|found| found.before),
        };
        if !dry_run {
            define(&mut tx, &checked, now).await?;
            tx.commit().await?;
            self.online.definitions_changed();
        }
        Ok(Defined::new(checked.view, before, now))
    }

    async fn checked(&self, new: NewFeatureView) -> Result<Checked, Error> {
        new.table.check()?;
        let table = self.catalogs.table(&new.table).await?;
        let (view, key_types) = new.check(&table::columns(&table), PROJECT)?;
        let message = feature_view::to_proto(&view, &key_types);
        Ok(Checked {
            view,
            key_types,
            message,
        })
    }

    /// Refuses a definition without a feature that a service takes of the view.
    async fn check_services(&self, view: &FeatureView) -> Result<(), Error> {
        for (service, features) in self.services_of(PROJECT, &view.name).await? {
            let gone = features
                .iter()
                .find(|name| !view.features.iter().any(|f| f.name == **name));
            if let Some(name) = gone {
                return Err(Error::InUse(format!(
                    "feature service '{service}' takes feature {name:?} of feature view '{}', which would be gone; change the service first",
                    view.name
                )));
            }
        }
        Ok(())
    }
}

impl Defined {
    fn new(view: FeatureView, before: Option<FeatureView>, now: i64) -> Self {
        let view = FeatureView {
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
            ..view
        };
        Self {
            view,
            before,
            same: false,
        }
    }
}

/// The view of that name that is there.
///
/// # Errors
/// [`Error::Exists`] when it is of another kind.
async fn there(tx: &mut db::Tx, wanted: &Checked) -> Result<Option<Defined>, Error> {
    let name = &wanted.view.name;
    for kind in VIEW_KINDS {
        let Some(row) = objects::find(tx, PROJECT, kind.key(), name).await? else {
            continue;
        };
        if kind != Kind::FeatureView {
            return Err(Error::Exists {
                kind,
                name: name.clone(),
            });
        }
        let same = proto::FeatureView::decode(&*row.spec)?.spec == wanted.message.spec;
        let found = view(PROJECT, kind, &row)?;
        return Ok(Some(Defined {
            view: found.clone(),
            before: Some(found),
            same,
        }));
    }
    Ok(None)
}

/// Writes the view, its data source, and those of its entities that are not there.
async fn define(tx: &mut db::Tx, checked: &Checked, now: i64) -> Result<(), Error> {
    let Checked {
        view,
        key_types,
        message,
    } = checked;
    for ((entity, join_key), dtype) in view.entities.iter().zip(&view.join_keys).zip(key_types) {
        let kind = Kind::Entity;
        if objects::find(tx, PROJECT, kind.key(), entity)
            .await?
            .is_none()
        {
            let spec = proto::EntitySpec {
                name: entity.clone(),
                join_key: join_key.clone(),
                value_type: dtype.number(),
                project: PROJECT.to_owned(),
                ..proto::EntitySpec::default()
            };
            let spec = Some(spec);
            let bytes = proto::Entity { spec, meta: None }.encode_to_vec();
            write(tx, PROJECT, kind, entity, bytes, now).await?;
        }
    }
    let source = feature_view::source_to_proto(view);
    let (kind, bytes) = (Kind::DataSource, source.encode_to_vec());
    write(tx, PROJECT, kind, &source.name, bytes, now).await?;
    let bytes = message.encode_to_vec();
    write(tx, PROJECT, Kind::FeatureView, &view.name, bytes, now).await
}
