//! The registry of definitions: the same rows for the REST routes and for the Feast SDK.

mod define;
mod kind;
mod objects;

pub use define::Defined;
pub(crate) use kind::{LABEL, STREAM, VALIDATION, VIEW_KINDS};

use prost::Message as _;

use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::feature_view::FeatureView;
use crate::proto;
use crate::store::objects::{self as rows, ObjectRow};
use kind::READ_KINDS;
use objects::services_of;

/// The project of everything that is defined over REST.
pub const PROJECT: &str = "default";

/// How many definitions there are, in all projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub feature_views: i64,
    pub entities: i64,
    pub feature_services: i64,
}

impl FeatureStore {
    /// All views of a project whose features are columns of a table, by name.
    pub async fn feature_views(&self, project: &str) -> Result<Vec<FeatureView>, Error> {
        let mut views = Vec::new();
        for kind in READ_KINDS {
            for row in self.objects(project, kind).await? {
                match view(project, kind, &row) {
                    Ok(view) => views.push(view),
                    // Kept for its SDK, and read by nobody here.
                    Err(Error::Unsupported(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
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

    /// Deletes a view of any kind.
    ///
    /// # Errors
    /// [`Error::InUse`] when a feature service still names it.
    pub async fn delete_feature_view(&self, project: &str, name: &str) -> Result<(), Error> {
        let services = self.objects(project, Kind::FeatureService).await?;
        if let Some((service, _)) = services_of(services, name)?.first() {
            return Err(Error::InUse(format!(
                "feature service '{service}' uses feature view '{name}'; delete or change it first"
            )));
        }
        let mut kind = Kind::FeatureView;
        for other in VIEW_KINDS {
            if self.find_object(project, other, name).await?.is_some() {
                kind = other;
            }
        }
        self.delete_object(project, kind, name).await
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
