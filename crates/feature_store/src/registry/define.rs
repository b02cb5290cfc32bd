//! Feature views as REST defines them: checked against their tables, created, or put in the place of
//! what was there.

use prost::Message as _;

use super::kind::VIEW_KINDS;
use super::objects::{services_of, write};
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
        let mut checked = self.checked(new).await?;
        let mut tx = self.db.begin().await?;
        if let Some(found) = there(&mut tx, &mut checked).await? {
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
        let mut checked = self.checked(new).await?;
        let mut tx = self.db.begin().await?;
        let before = match there(&mut tx, &mut checked).await? {
            Some(found) if found.same => return Ok(found),
            found => found.and_then(|found| found.before),
        };
        check_services(&mut tx, &checked.view).await?;
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
}

/// Refuses a definition without a feature that a service takes of the view.
async fn check_services(tx: &mut db::Tx, view: &FeatureView) -> Result<(), Error> {
    let services = objects::list(tx, PROJECT, Kind::FeatureService.key()).await?;
    for (service, features) in services_of(services, &view.name)? {
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

/// The view of that name that is there; one that is disabled stays so.
///
/// # Errors
/// [`Error::Exists`] when it is of another kind.
async fn there(tx: &mut db::Tx, wanted: &mut Checked) -> Result<Option<Defined>, Error> {
    let name = wanted.view.name.clone();
    for kind in VIEW_KINDS {
        let Some(row) = objects::find(tx, PROJECT, kind.key(), &name).await? else {
            continue;
        };
        if kind != Kind::FeatureView {
            return Err(Error::Exists { kind, name });
        }
        let found = view(PROJECT, kind, &row)?;
        wanted.view.disabled = found.disabled;
        if let Some(spec) = &mut wanted.message.spec {
            spec.disabled = found.disabled;
        }
        let same = proto::FeatureView::decode(&*row.spec)?.spec == wanted.message.spec;
        return Ok(Some(Defined {
            view: found.clone(),
            before: Some(found),
            same,
        }));
    }
    Ok(None)
}

/// Writes the view, its data source and its entities.
async fn define(tx: &mut db::Tx, checked: &Checked, now: i64) -> Result<(), Error> {
    let Checked {
        view,
        key_types,
        message,
    } = checked;
    for ((entity, join_key), dtype) in view.entities.iter().zip(&view.join_keys).zip(key_types) {
        let spec = proto::EntitySpec {
            name: entity.clone(),
            join_key: join_key.clone(),
            value_type: dtype.number(),
            project: PROJECT.to_owned(),
            ..proto::EntitySpec::default()
        };
        define_entity(tx, spec, &view.name, now).await?;
    }
    let source = feature_view::source_to_proto(view);
    let (kind, bytes) = (Kind::DataSource, source.encode_to_vec());
    write(tx, PROJECT, kind, &source.name, bytes, now).await?;
    let bytes = message.encode_to_vec();
    write(tx, PROJECT, Kind::FeatureView, &view.name, bytes, now).await
}

/// Writes an entity, unless it is there by the same join key.
///
/// # Errors
/// When it has another join key, by which another view knows it.
async fn define_entity(
    tx: &mut db::Tx,
    entity: proto::EntitySpec,
    view: &str,
    now: i64,
) -> Result<(), Error> {
    let (kind, name) = (Kind::Entity, entity.name.clone());
    if let Some(row) = objects::find(tx, PROJECT, kind.key(), &name).await? {
        let there = proto::Entity::decode(&*row.spec)?.spec.unwrap_or_default();
        if there.join_key == entity.join_key {
            return Ok(());
        }
        for row in objects::list(tx, PROJECT, Kind::FeatureView.key()).await? {
            let other = proto::FeatureView::decode(&*row.spec)?.spec;
            let uses = other.is_some_and(|other| other.entities.contains(&name));
            if uses && row.name != view {
                return Err(Error::InUse(format!(
                    "entity '{name}' has the join key {:?}, by which feature view '{}' knows it: give join_keys with that, or name another entity",
                    there.join_key, row.name
                )));
            }
        }
    }
    let bytes = proto::Entity {
        spec: Some(entity),
        meta: None,
    }
    .encode_to_vec();
    write(tx, PROJECT, kind, &name, bytes, now).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};

    use super::*;
    use crate::dtype::Scalar;
    use crate::table::TableRef;
    use crate::{Config, MIGRATIONS};

    fn definition(table: &TableRef) -> NewFeatureView {
        NewFeatureView {
            name: "v".to_owned(),
            entities: vec!["id".to_owned()],
            join_keys: None,
            features: vec![("x".to_owned(), Dtype::Scalar(Scalar::Int64))],
            table: table.clone(),
            timestamp_field: Some("at".to_owned()),
            created_timestamp_column: None,
            field_mapping: BTreeMap::new(),
            ttl_seconds: None,
            online: false,
            tags: BTreeMap::new(),
            description: String::new(),
            owner: String::new(),
        }
    }

    #[tokio::test]
    async fn a_view_that_is_disabled_stays_so_when_it_is_defined_again() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let table = TableRef::parse_uri("iceberg://gold/t").unwrap();
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
        let columns = [("id", number.clone()), ("x", number), ("at", at)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        store.catalogs.append(&table, rows).await.unwrap();
        store
            .create_feature_view(definition(&table), 0)
            .await
            .unwrap();
        let kind = Kind::FeatureView;
        let row = store.object(PROJECT, kind, "v").await.unwrap();
        let mut message = proto::FeatureView::decode(&*row.spec).unwrap();
        message.spec.as_mut().unwrap().disabled = true;
        let disabled = message.encode_to_vec();
        store
            .apply_object(PROJECT, kind, "v", disabled, 1)
            .await
            .unwrap();
        let again = store.create_feature_view(definition(&table), 2).await;
        assert!(again.unwrap().same);
        let mut other = definition(&table);
        for same in [true, false] {
            let defined = store.replace_feature_view(other.clone(), false, 3).await;
            assert_eq!(defined.unwrap().same, same);
            let view = store.feature_view(PROJECT, "v").await.unwrap();
            assert!(view.disabled);
            other.ttl_seconds = Some(60);
        }
    }
}
