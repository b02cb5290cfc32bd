//! Definitions as the bytes that came: find, list, apply and delete, whatever their kind.

use prost::Message as _;

use super::kind::{READ_KINDS, STREAM, VALIDATION};
use crate::FeatureStore;
use crate::definition::check_name;
use crate::error::{Error, Kind};
use crate::on_demand::ON_DEMAND;
use crate::proto;
use crate::store::objects::{self, ObjectRow};

impl FeatureStore {
    pub(crate) async fn find_object(
        &self,
        project: &str,
        kind: Kind,
        name: &str,
    ) -> Result<Option<ObjectRow>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::find(&mut conn, project, kind.key(), name).await?)
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

    pub(crate) async fn objects(&self, project: &str, kind: Kind) -> Result<Vec<ObjectRow>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::list(&mut conn, project, kind.key()).await?)
    }

    /// The projects that hold anything.
    pub(crate) async fn projects(&self) -> Result<Vec<String>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(objects::projects(&mut conn).await?)
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
        // A source that has no name is called by its path.
        let is_path = kind == Kind::DataSource && !name.is_empty() && name.len() <= 1000;
        if !is_path || name.contains(char::is_control) {
            check_name("name", name)?;
        }
        let mut tx = self.db.begin().await?;
        write(&mut tx, project, kind, name, bytes, now).await?;
        tx.commit().await?;
        self.online.definitions_changed();
        if kind == ON_DEMAND {
            self.prepare_transforms();
        }
        Ok(())
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
        let meta = |kind| proto::Meta {
            materialization_intervals: vec![interval.clone()],
            state: if has_intervals(kind) {
                proto::AVAILABLE_ONLINE
            } else {
                0
            },
            ..proto::Meta::default()
        };
        // In one transaction, so that a definition that comes meanwhile is not undone.
        let mut tx = self.db.begin().await?;
        for kind in READ_KINDS {
            if let Some(row) = objects::find(&mut tx, project, kind.key(), view).await? {
                let object = proto::with_meta(row.spec, meta(kind));
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

    fn prepare_transforms(&self) {
        let (transforms, stop) = (self.transforms.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let prepared = stop.run_until_cancelled(transforms.prepare()).await;
            if let Some(Err(error)) = prepared {
                tracing::warn!(error = %error.message(), "preparing on-demand feature views failed");
            }
        });
    }
}

/// Writes a definition with the times that asgard knows.
pub(super) async fn write(
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
        let mut meta = match &there {
            Some(row) if has_intervals(kind) => kept(&bytes, &row.spec)?,
            _ => proto::Meta::default(),
        };
        let created = there.as_ref().map_or(now, |row| row.created_at);
        meta.created_timestamp = Some(proto::Timestamp::from_ms(created));
        meta.last_updated_timestamp = Some(proto::Timestamp::from_ms(now));
        proto::with_meta(bytes, meta)
    };
    Ok(objects::upsert(tx, project, kind.key(), name, &bytes, now).await?)
}

/// Of these feature services those that name a view, with the features that each takes of it.
pub(super) fn services_of(
    services: Vec<ObjectRow>,
    view: &str,
) -> Result<Vec<(String, Vec<String>)>, Error> {
    let mut found = Vec::new();
    for row in services {
        let service = proto::FeatureService::decode(&*row.spec)?;
        let projections = service.spec.map(|spec| spec.features).unwrap_or_default();
        let mut of_view = projections
            .into_iter()
            .filter(|p| p.feature_view_name == view)
            .peekable();
        if of_view.peek().is_some() {
            let features = of_view.flat_map(|p| p.feature_columns).map(|f| f.name);
            found.push((row.name, features.collect()));
        }
    }
    Ok(found)
}

fn has_intervals(kind: Kind) -> bool {
    matches!(kind, Kind::FeatureView | STREAM)
}

/// What stays of a view's `meta`: a client that re-applies it sends neither its state nor the times that
/// were materialized.
fn kept(new: &[u8], there: &[u8]) -> Result<proto::Meta, Error> {
    let meta = |definition| -> Result<proto::Meta, Error> {
        Ok(proto::Stamped::decode(definition)?.meta.unwrap_or_default())
    };
    let (new, mut kept) = (meta(new)?, meta(there)?);
    if !new.materialization_intervals.is_empty() {
        kept.materialization_intervals.clear();
    }
    if new.state != 0 {
        kept.state = 0;
    }
    Ok(kept)
}
