//! The registry of definitions: the same rows for the REST routes and for the Feast SDK.

use prost::Message as _;

use crate::FeatureStore;
use crate::definition::NewFeatureView;
use crate::error::{Error, Kind};
use crate::feature_view::{self, FeatureView};
use crate::on_demand::ON_DEMAND;
use crate::proto;
use crate::store::objects::{self, ObjectRow};
use crate::table;

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

impl Kind {
    /// The kind's name in the database.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
            Self::DataSource => "data_source",
            Self::Project => "project",
            Self::Other(name) => name,
        }
    }
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
        let mut tx = self.db.begin().await?;
        let found = objects::find(&mut tx, PROJECT, Kind::FeatureView.key(), &view.name).await?;
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
            let there = objects::find(&mut tx, PROJECT, Kind::Entity.key(), entity).await?;
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
        objects::upsert(
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

    /// A definition of `project`, else of the only project that has one of that name.
    ///
    /// # Errors
    /// When there is none, or several other projects have one.
    pub(crate) async fn object_of(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
    ) -> Result<(String, ObjectRow), Error> {
        if let Some(row) = self.find_object(project, kind, name).await? {
            return Ok((project.to_owned(), row));
        }
        let mut found = Vec::new();
        for other in self.projects().await? {
            if let Some(row) = self.find_object(&other, kind, name).await? {
                found.push((other, row));
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(Error::Invalid(format!(
                "the SDK does not say of which project it means {kind} '{name}', and several have it: give it a name of its own"
            ))),
            (None, _) => {
                let row = self.object(project, kind, name).await?;
                Ok((project.to_owned(), row))
            }
        }
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
            count += objects::count(&mut conn, kind.key()).await?;
        }
        Ok(Counts {
            feature_views: count,
            entities: objects::count(&mut conn, Kind::Entity.key()).await?,
            feature_services: objects::count(&mut conn, Kind::FeatureService.key()).await?,
        })
    }

    pub(crate) async fn objects(&self, project: &str, kind: Kind) -> Result<Vec<ObjectRow>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::list(&mut conn, project, kind.key()).await?)
    }

    pub(crate) async fn object(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
    ) -> Result<ObjectRow, Error> {
        let mut conn = self.db.acquire().await?;
        match objects::find(&mut conn, project, kind.key(), name).await? {
            Some(row) => Ok(row),
            None => {
                let rows = objects::list(&mut conn, project, kind.key()).await?;
                Err(Error::NotFound {
                    kind,
                    name: name.to_owned(),
                    project: project.to_owned(),
                    known: rows.into_iter().map(|row| row.name).collect(),
                })
            }
        }
    }

    /// The projects that hold anything.
    pub(crate) async fn projects(&self) -> Result<Vec<String>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::projects(&mut conn).await?)
    }

    pub(crate) async fn find_object(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
    ) -> Result<Option<ObjectRow>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::find(&mut conn, project, kind.key(), name).await?)
    }

    /// Stores a definition as its client sent it, with the times that asgard knows.
    pub(crate) async fn apply_object(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
        bytes: Vec<u8>,
        now: i64,
    ) -> Result<(), Error> {
        crate::definition::check_name("name", name)?;
        let mut tx = self.db.begin().await?;
        write(&mut tx, project, kind, name, bytes, now).await?;
        tx.commit().await?;
        self.online.definitions_changed();
        if kind == ON_DEMAND {
            self.prepare_transforms();
        }
        Ok(())
    }

    fn prepare_transforms(&self) {
        let (transforms, stop) = (self.transforms.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let prepared = stop.run_until_cancelled(transforms.prepare()).await;
            if let Some(Err(error)) = prepared {
                tracing::warn!(error = %error.message(), "preparing on-demand feature views failed");
            }
        });
    }

    /// Notes that the times of an interval, in microseconds, were materialized.
    ///
    /// # Errors
    /// When the view is not there any more.
    pub(crate) async fn add_interval(
        &self,
        project: &str,
        view: &str,
        (start_us, end_us): (i64, i64),
        now: i64,
    ) -> Result<(), Error> {
        let interval = proto::Interval {
            start_time: Some(proto::Timestamp::from_us(start_us)),
            end_time: Some(proto::Timestamp::from_us(end_us)),
        };
        let meta = proto::Meta {
            materialization_intervals: vec![interval],
            ..proto::Meta::default()
        };
        // In one transaction, so that a definition that comes meanwhile is not undone.
        let mut tx = self.db.begin().await?;
        for kind in READ_KINDS {
            if let Some(row) = objects::find(&mut tx, project, kind.key(), view).await? {
                let object = proto::with_meta(row.spec, meta);
                write(&mut tx, project, kind, view, object, now).await?;
                tx.commit().await?;
                return Ok(());
            }
        }
        drop(tx);
        let row = self.object(project, Kind::FeatureView, view).await;
        row.map(|_| ())
    }

    pub(crate) async fn delete_object(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
    ) -> Result<(), Error> {
        let views_rows =
            READ_KINDS.contains(&kind) && self.find_object(project, kind, name).await?.is_some();
        if views_rows {
            // First: a view stays that keeps its rows.
            self.online.forget(project, name).await?;
        }
        let mut tx = self.db.begin().await?;
        let deleted = objects::delete(&mut tx, project, kind.key(), name).await?;
        tx.commit().await?;
        self.online.definitions_changed();
        if !deleted {
            return self.object(project, kind, name).await.map(|_| ());
        }
        if views_rows && let Err(error) = self.forget_of_none(project, name).await {
            // What was pushed between the two takes room until a view of that name is written to.
            tracing::warn!(error = %error.message(), view = name, "removing the online values of a deleted feature view failed");
        }
        Ok(())
    }

    /// Removes the online values that a view of that name has left, unless there is one: those are
    /// none of a later one. Values of one that somebody makes at the same time are of another
    /// generation, and stay.
    async fn forget_of_none(&self, project: &str, name: &str) -> Result<(), Error> {
        if !self.is_read_view(project, name).await? {
            let left = self.online.left(project, name).await?;
            if !self.is_read_view(project, name).await? {
                self.online.forget_left(left).await?;
            }
        }
        Ok(())
    }

    async fn is_read_view(&self, project: &str, name: &str) -> Result<bool, Error> {
        for kind in READ_KINDS {
            if self.find_object(project, kind, name).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The kinds that are feature views of one sort or another.
pub(crate) const VIEW_KINDS: [Kind; 4] = [
    Kind::FeatureView,
    Kind::Other("on_demand_feature_view"),
    STREAM,
    LABEL,
];

/// Those whose features are columns of a table.
const READ_KINDS: [Kind; 3] = [Kind::FeatureView, STREAM, LABEL];

pub(crate) const STREAM: Kind = Kind::Other("stream_feature_view");
pub(crate) const LABEL: Kind = Kind::Other("label_view");
pub(crate) const VALIDATION: Kind = Kind::Other("validation_reference");

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

async fn write(
    tx: &mut db::Tx,
    project: &str,
    kind: Kind,
    name: &str,
    bytes: Vec<u8>,
    now: i64,
) -> Result<(), Error> {
    let there = objects::find(tx, project, kind.key(), name).await?;
    let bytes = if matches!(kind, Kind::DataSource | VALIDATION) {
        bytes
    } else {
        let intervals = match &there {
            Some(row) if has_intervals(kind) && intervals(&bytes)?.is_empty() => {
                // A client that re-applies a view sends none of the times that were materialized.
                intervals(&row.spec)?
            }
            _ => Vec::new(),
        };
        let created = there.as_ref().map_or(now, |row| row.created_at);
        let meta = proto::Meta {
            created_timestamp: Some(proto::Timestamp::from_ms(created)),
            last_updated_timestamp: Some(proto::Timestamp::from_ms(now)),
            materialization_intervals: intervals,
        };
        proto::with_meta(bytes, meta)
    };
    Ok(objects::upsert(tx, project, kind.key(), name, &bytes, now).await?)
}

fn has_intervals(kind: Kind) -> bool {
    matches!(kind, Kind::FeatureView | STREAM)
}

fn intervals(definition: &[u8]) -> Result<Vec<proto::Interval>, Error> {
    let meta = proto::Stamped::decode(definition)?.meta.unwrap_or_default();
    Ok(meta.materialization_intervals)
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
