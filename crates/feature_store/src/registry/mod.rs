//! The registry of definitions: the same rows for the REST routes and for the Feast SDK.

mod kind;
mod objects;

pub(crate) use kind::{LABEL, STREAM, VALIDATION, VIEW_KINDS};

use prost::Message as _;

use crate::FeatureStore;
use crate::definition::NewFeatureView;
use crate::error::{Error, Kind};
use crate::feature_view::{self, FeatureView};
use crate::proto;
use crate::store::objects::{self as rows, ObjectRow};
use crate::table;
use kind::READ_KINDS;
use objects::write;

/// The project of everything that is defined over REST.
pub const PROJECT: &str = "default";

/// How many definitions there are, in all projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub feature_views: i64,
    pub entities: i64,
    pub feature_services: i64,
}

/// What a creation found.
#[derive(Debug, Clone)]
pub struct Created {
    pub view: FeatureView,
    /// False when the same definition was there already.
    pub new: bool,
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
    ) -> Result<Created, Error> {
        new.table.check()?;
        let table = self.catalogs.table(&new.table).await?;
        let (view, key_types) = new.check(&table::columns(&table), PROJECT)?;
        let message = feature_view::to_proto(&view, &key_types);
        self.forget_of_none(PROJECT, &view.name).await?;
        let mut tx = self.db.begin().await?;
        let found = rows::find(&mut tx, PROJECT, Kind::FeatureView.key(), &view.name).await?;
        if let Some(row) = found {
            let there = proto::FeatureView::decode(&*row.spec)?;
            if there.spec != message.spec {
                return Err(Error::Exists {
                    kind: Kind::FeatureView,
                    name: view.name,
                });
            }
            return Ok(Created {
                view: FeatureView::from_proto(&there)?,
                new: false,
            });
        }
        for ((entity, join_key), dtype) in view.entities.iter().zip(&view.join_keys).zip(&key_types)
        {
            let there = rows::find(&mut tx, PROJECT, Kind::Entity.key(), entity).await?;
            if there.is_none() {
                let spec = proto::EntitySpec {
                    name: entity.clone(),
                    join_key: join_key.clone(),
                    value_type: dtype.number(),
                    project: PROJECT.to_owned(),
                    ..proto::EntitySpec::default()
                };
                let entity = proto::Entity {
                    spec: Some(spec),
                    meta: None,
                };
                let name = &entity
                    .spec
                    .as_ref()
                    .map(|s| s.name.clone())
                    .unwrap_or_default();
                write(
                    &mut tx,
                    PROJECT,
                    Kind::Entity,
                    name,
                    entity.encode_to_vec(),
                    now,
                )
                .await?;
            }
        }
        let source = feature_view::source_to_proto(&view);
        rows::upsert(
            &mut tx,
            PROJECT,
            Kind::DataSource.key(),
            &source.name,
            &source.encode_to_vec(),
            now,
        )
        .await?;
        let bytes = message.encode_to_vec();
        write(&mut tx, PROJECT, Kind::FeatureView, &view.name, bytes, now).await?;
        tx.commit().await?;
        self.online.definitions_changed();
        let view = FeatureView {
            created_at: now,
            updated_at: now,
            ..view
        };
        Ok(Created { view, new: true })
    }

    /// All feature views of a project, by name.
    pub async fn feature_views(&self, project: &str) -> Result<Vec<FeatureView>, Error> {
        let rows = self.objects(project, Kind::FeatureView).await?;
        let kind = Kind::FeatureView;
        rows.iter().map(|row| view(project, kind, row)).collect()
    }

    /// The feature view of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`] lists the views that there are.
    pub async fn feature_view(&self, project: &str, name: &str) -> Result<FeatureView, Error> {
        for kind in READ_KINDS {
            if let Some(row) = self.find_object(project, kind, name).await? {
                return view(project, kind, &row);
            }
        }
        // The error lists the views that there are.
        let kind = Kind::FeatureView;
        view(project, kind, &self.object(project, kind, name).await?)
    }

    /// The same for a command that does not name its project: of `project`, or of the only one
    /// that has a view of that name.
    pub(crate) async fn written_view(
        &self,
        project: &str,
        name: &str,
    ) -> Result<FeatureView, Error> {
        for kind in READ_KINDS {
            match self.object_of(project, kind, name).await {
                Ok((project, row)) => return view(&project, kind, &row),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.feature_view(project, name).await
    }

    /// Deletes a feature view.
    ///
    /// # Errors
    /// [`Error::InUse`] when a feature service still names it.
    pub async fn delete_feature_view(&self, project: &str, name: &str) -> Result<(), Error> {
        let services = self.objects(project, Kind::FeatureService).await?;
        for row in services {
            let service = proto::FeatureService::decode(&*row.spec)?;
            let features = service.spec.map(|spec| spec.features).unwrap_or_default();
            if features.iter().any(|p| p.feature_view_name == name) {
                return Err(Error::InUse(format!(
                    "feature service '{}' uses feature view '{name}'; delete or change it first",
                    row.name
                )));
            }
        }
        self.delete_object(project, Kind::FeatureView, name).await
    }

    /// How much is defined.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut conn = self.db.acquire().await?;
        let mut count = 0;
        for kind in VIEW_KINDS {
            count += rows::count(&mut conn, kind.key()).await?;
        }
        Ok(Counts {
            feature_views: count,
            entities: rows::count(&mut conn, Kind::Entity.key()).await?,
            feature_services: rows::count(&mut conn, Kind::FeatureService.key()).await?,
        })
    }
}

fn view(project: &str, kind: Kind, row: &ObjectRow) -> Result<FeatureView, Error> {
    let message = match kind {
        STREAM => proto::StreamView::decode(&*row.spec)?.into(),
        LABEL => {
            let labels = proto::LabelView::decode(&*row.spec)?;
            if labels
                .spec
                .as_ref()
                .is_some_and(|spec| spec.conflict_policy != 0)
            {
                return Err(Error::Unsupported(format!(
                    "label view '{}' has a conflict policy that is not computed here: use ConflictPolicy.LAST_WRITE_WINS",
                    row.name
                )));
            }
            labels.into()
        }
        _ => proto::FeatureView::decode(&*row.spec)?,
    };
    let view = FeatureView::from_proto(&message)?;
    Ok(FeatureView {
        // SDKs leave it out of the definition.
        project: project.to_owned(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        ..view
    })
}

#[cfg(test)]
mod tests {
    use web::Code;

    use super::*;

    #[test]
    fn of_label_views_only_those_whose_last_write_wins_are_read() {
        let row = |conflict_policy| ObjectRow {
            name: "labels".to_owned(),
            spec: proto::LabelView {
                spec: Some(proto::LabelViewSpec {
                    name: "labels".to_owned(),
                    conflict_policy,
                    ..proto::LabelViewSpec::default()
                }),
                meta: None,
            }
            .encode_to_vec(),
            created_at: 0,
            updated_at: 0,
        };
        let read = |policy| view(PROJECT, LABEL, &row(policy));
        assert_eq!(read(0).unwrap().name, "labels");
        for policy in [1, 2] {
            let refused = read(policy).unwrap_err();
            assert_eq!(refused.code(), Code::NotImplemented);
            assert!(refused.to_string().contains("LAST_WRITE_WINS"), "{refused}");
        }
    }
}
