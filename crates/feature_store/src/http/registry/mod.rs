//! `feast.registry.RegistryServer`: the registry as the Feast SDK's remote mode sees it.
//!
//! Definitions go in and out as the bytes they are. Each is stored at once when it is applied, so
//! `Commit` and `Refresh` have nothing to do.

mod messages;

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::State;
use prost::Message;
use web::{Permission, Routes, Timestamp};

use self::messages::{
    AnyView, ApplyMaterializationRequest, ApplyProjectRequest, ApplyRequest, ApplyViewRequest,
    GetAnyViewResponse, ListRequest, ListResponse, NameRequest, Whole, WithinRequest,
};
use super::grpc;
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::on_demand::ON_DEMAND;
use crate::proto;
use crate::registry::{LABEL, PROJECT, STREAM, VALIDATION, VIEW_KINDS};
use crate::store::objects::ObjectRow;

const SERVICE: &str = "feast.registry.RegistryServer";

const SAVED_DATASET: Kind = Kind::Other("saved_dataset");
const PERMISSION: Kind = Kind::Other("permission");

/// What a call does.
#[derive(Debug, Clone, Copy)]
enum Call {
    Apply(Kind),
    ApplyView,
    ApplyProject,
    ApplyMaterialization,
    Get(Kind),
    GetAnyView,
    GetProject,
    List(Kind),
    ListAllViews,
    ListSavedDatasets,
    ListProjects,
    Delete(Kind),
    DeleteView,
    Whole,
    /// Nothing is left to do: what is applied is stored.
    Nothing,
}

const CALLS: &[(&str, Permission, Call)] = {
    use Permission::{ReadFeatures as Read, WriteFeatures as Write};
    &[
        ("ApplyEntity", Write, Call::Apply(Kind::Entity)),
        ("ApplyDataSource", Write, Call::Apply(Kind::DataSource)),
        ("ApplyFeatureView", Write, Call::ApplyView),
        (
            "ApplyFeatureService",
            Write,
            Call::Apply(Kind::FeatureService),
        ),
        ("ApplyProject", Write, Call::ApplyProject),
        ("ApplyMaterialization", Write, Call::ApplyMaterialization),
        ("GetEntity", Read, Call::Get(Kind::Entity)),
        ("GetDataSource", Read, Call::Get(Kind::DataSource)),
        ("GetFeatureView", Read, Call::Get(Kind::FeatureView)),
        ("GetStreamFeatureView", Read, Call::Get(STREAM)),
        ("GetOnDemandFeatureView", Read, Call::Get(ON_DEMAND)),
        ("GetAnyFeatureView", Read, Call::GetAnyView),
        ("GetFeatureService", Read, Call::Get(Kind::FeatureService)),
        ("GetProject", Read, Call::GetProject),
        ("ListEntities", Read, Call::List(Kind::Entity)),
        ("ListDataSources", Read, Call::List(Kind::DataSource)),
        ("ListFeatureViews", Read, Call::List(Kind::FeatureView)),
        ("ListStreamFeatureViews", Read, Call::List(STREAM)),
        ("ListOnDemandFeatureViews", Read, Call::List(ON_DEMAND)),
        ("ListAllFeatureViews", Read, Call::ListAllViews),
        (
            "ListFeatureServices",
            Read,
            Call::List(Kind::FeatureService),
        ),
        ("GetLabelView", Read, Call::Get(LABEL)),
        ("ListLabelViews", Read, Call::List(LABEL)),
        // Kept for those who made them; asgard itself asks its own keys and roles.
        ("ApplySavedDataset", Write, Call::Apply(SAVED_DATASET)),
        ("GetSavedDataset", Read, Call::Get(SAVED_DATASET)),
        ("ListSavedDatasets", Read, Call::ListSavedDatasets),
        ("DeleteSavedDataset", Write, Call::Delete(SAVED_DATASET)),
        ("ApplyValidationReference", Write, Call::Apply(VALIDATION)),
        ("GetValidationReference", Read, Call::Get(VALIDATION)),
        ("ListValidationReferences", Read, Call::List(VALIDATION)),
        ("DeleteValidationReference", Write, Call::Delete(VALIDATION)),
        ("ApplyPermission", Write, Call::Apply(PERMISSION)),
        ("GetPermission", Read, Call::Get(PERMISSION)),
        ("ListPermissions", Read, Call::List(PERMISSION)),
        ("DeletePermission", Write, Call::Delete(PERMISSION)),
        ("ListProjects", Read, Call::ListProjects),
        ("DeleteEntity", Write, Call::Delete(Kind::Entity)),
        ("DeleteDataSource", Write, Call::Delete(Kind::DataSource)),
        ("DeleteFeatureView", Write, Call::DeleteView),
        (
            "DeleteFeatureService",
            Write,
            Call::Delete(Kind::FeatureService),
        ),
        ("Commit", Write, Call::Nothing),
        ("Refresh", Read, Call::Nothing),
        ("Proto", Read, Call::Whole),
    ]
};

pub(super) fn routes(mut routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    for (name, permission, call) in CALLS {
        let handler = move |State(store): State<FeatureStore>, body: Bytes| async move {
            let answer = match grpc::message(&body) {
                Ok(message) => answer(&store, *call, message, Timestamp::now().0).await,
                Err(error) => Err(error),
            };
            grpc::respond(answer)
        };
        routes = routes.post(&format!("/{SERVICE}/{name}"), *permission, handler);
    }
    routes
}

fn project_or_default(project: &str) -> &str {
    if project.is_empty() { PROJECT } else { project }
}

async fn answer(
    store: &FeatureStore,
    call: Call,
    request: Bytes,
    now: i64,
) -> Result<Vec<u8>, Error> {
    let nothing = Vec::new();
    Ok(match call {
        Call::Nothing => nothing,
        Call::Apply(kind) => {
            let request = ApplyRequest::decode(request)?;
            let kind = kind_meant(kind, &request.object);
            apply(store, &request.project, kind, request.object, now).await?;
            nothing
        }
        Call::ApplyView => {
            let ApplyViewRequest {
                feature_view,
                on_demand,
                stream,
                label,
                project,
            } = ApplyViewRequest::decode(request)?;
            let given = VIEW_KINDS
                .into_iter()
                .zip([feature_view, on_demand, stream, label]);
            for (kind, object) in given {
                if let Some(object) = object {
                    apply(store, &project, kind, object, now).await?;
                }
            }
            nothing
        }
        Call::ApplyProject => {
            let object = ApplyProjectRequest::decode(request)?.project;
            let name = name_of(Kind::Project, &object)?;
            store
                .apply_object(&name, Kind::Project, &name, object, now)
                .await?;
            nothing
        }
        Call::ApplyMaterialization => {
            materialized(store, ApplyMaterializationRequest::decode(request)?, now).await?;
            nothing
        }
        Call::Get(kind) => {
            let NameRequest { name, project } = NameRequest::decode(request)?;
            store
                .object(project_or_default(&project), kind, &name)
                .await?
                .spec
        }
        Call::GetAnyView => {
            let NameRequest { name, project } = NameRequest::decode(request)?;
            let any_feature_view =
                Some(any_view(store, project_or_default(&project), &name).await?);
            GetAnyViewResponse { any_feature_view }.encode_to_vec()
        }
        Call::GetProject => {
            let NameRequest { name, .. } = NameRequest::decode(request)?;
            project(store, &name).await?
        }
        Call::List(kind) => {
            let request = ListRequest::decode(request)?;
            list(store, kind, &request).await?.encode_to_vec()
        }
        Call::ListSavedDatasets => {
            let within = WithinRequest::decode(request.clone())?;
            let mut found = list(store, SAVED_DATASET, &ListRequest::decode(request)?).await?;
            found.items.retain(|item| is_within(item, &within));
            found.encode_to_vec()
        }
        Call::ListAllViews => {
            let request = ListRequest::decode(request)?;
            let mut items = Vec::new();
            for kind in VIEW_KINDS {
                let found = list(store, kind, &request).await?.items.into_iter();
                items.extend(found.map(|bytes| AnyView::new(kind, bytes).encode_to_vec()));
            }
            ListResponse { items }.encode_to_vec()
        }
        Call::ListProjects => ListResponse {
            items: projects(store).await?,
        }
        .encode_to_vec(),
        Call::Delete(kind) => {
            let NameRequest { name, project } = NameRequest::decode(request)?;
            store
                .delete_object(project_or_default(&project), kind, &name)
                .await?;
            nothing
        }
        Call::DeleteView => {
            let NameRequest { name, project } = NameRequest::decode(request)?;
            delete_view(store, project_or_default(&project), &name).await?;
            nothing
        }
        Call::Whole => whole(store).await?.encode_to_vec(),
    })
}

/// The name in a definition's bytes.
fn name_of(kind: Kind, object: &[u8]) -> Result<String, Error> {
    Ok(match kind {
        Kind::DataSource => proto::DataSource::decode(object)?.name,
        VALIDATION => proto::ValidationReference::decode(object)?.name,
        _ => proto::Named::decode(object)?.spec.unwrap_or_default().name,
    })
}

/// SDKs 0.40 and 0.50 send saved datasets to `ApplyFeatureService`. Their features are text,
/// where those of a feature service are messages, which begin with the number of a field.
fn kind_meant(kind: Kind, object: &[u8]) -> Kind {
    if kind != Kind::FeatureService {
        return kind;
    }
    let dataset = proto::SavedDataset::decode(object).ok();
    let is_dataset = dataset.and_then(|it| it.spec).is_some_and(|spec| {
        let is_text =
            |feature: &String| feature.contains(':') && !feature.contains(char::is_control);
        spec.storage.is_some() && !spec.features.is_empty() && spec.features.iter().all(is_text)
    });
    if is_dataset { SAVED_DATASET } else { kind }
}

async fn apply(
    store: &FeatureStore,
    project: &str,
    kind: Kind,
    object: Vec<u8>,
    now: i64,
) -> Result<(), Error> {
    let name = name_of(kind, &object)?;
    store
        .apply_object(project_or_default(project), kind, &name, object, now)
        .await
}

async fn materialized(
    store: &FeatureStore,
    request: ApplyMaterializationRequest,
    now: i64,
) -> Result<(), Error> {
    let name = request
        .feature_view
        .and_then(|view| view.spec)
        .unwrap_or_default()
        .name;
    let project = project_or_default(&request.project);
    let us = |at: Option<proto::Timestamp>| at.map_or(0, proto::Timestamp::us);
    let interval = (us(request.start_date), us(request.end_date));
    store.add_interval(project, &name, interval, now).await
}

async fn any_view(store: &FeatureStore, project: &str, name: &str) -> Result<AnyView, Error> {
    for kind in VIEW_KINDS {
        if let Some(row) = store.find_object(project, kind, name).await? {
            return Ok(AnyView::new(kind, row.spec));
        }
    }
    // The error lists the feature views that there are.
    let row = store.object(project, Kind::FeatureView, name).await?;
    Ok(AnyView::new(Kind::FeatureView, row.spec))
}

async fn list(
    store: &FeatureStore,
    kind: Kind,
    request: &ListRequest,
) -> Result<ListResponse, Error> {
    let rows = store
        .objects(project_or_default(&request.project), kind)
        .await?;
    let mut items = Vec::new();
    for row in rows {
        if request.tags.is_empty() || has_tags(kind, &row, &request.tags)? {
            items.push(row.spec);
        }
    }
    Ok(ListResponse { items })
}

/// Whether a saved dataset is in the namespace and the collection that are asked for, if any.
fn is_within(dataset: &[u8], asked: &WithinRequest) -> bool {
    let dataset = proto::SavedDataset::decode(dataset).unwrap_or_default();
    let spec = dataset.spec.unwrap_or_default();
    let within = |asked: &String, own: &String| asked.is_empty() || asked == own;
    within(&asked.namespace, &spec.namespace) && within(&asked.collection, &spec.collection)
}

fn has_tags(kind: Kind, row: &ObjectRow, wanted: &HashMap<String, String>) -> Result<bool, Error> {
    let bytes = row.spec.as_slice();
    let tags = match kind {
        Kind::Entity => proto::Entity::decode(bytes)?.spec.unwrap_or_default().tags,
        Kind::FeatureView => {
            proto::FeatureView::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        ON_DEMAND | STREAM => proto::Tagged::decode(bytes)?.spec.unwrap_or_default().tags,
        Kind::FeatureService => {
            proto::FeatureService::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        Kind::DataSource => proto::DataSource::decode(bytes)?.tags,
        LABEL => {
            proto::LabelView::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        SAVED_DATASET => {
            proto::SavedDataset::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        VALIDATION => proto::ValidationReference::decode(bytes)?.tags,
        PERMISSION => {
            proto::Permission::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        other => {
            return Err(Error::Unsupported(format!(
                "{other} cannot be listed by tags here"
            )));
        }
    };
    Ok(wanted
        .iter()
        .all(|(key, value)| tags.get(key) == Some(value)))
}

/// A project: as it was applied, else by its name alone when it holds anything.
async fn project(store: &FeatureStore, name: &str) -> Result<Vec<u8>, Error> {
    if let Some(row) = store.find_object(name, Kind::Project, name).await? {
        return Ok(row.spec);
    }
    let known = store.projects().await?;
    if known.iter().any(|p| p == name) || name == PROJECT {
        let spec = Some(proto::NamedSpec {
            name: name.to_owned(),
        });
        return Ok(proto::Named { spec }.encode_to_vec());
    }
    Err(Error::NotFound {
        kind: Kind::Project,
        name: name.to_owned(),
        project: name.to_owned(),
        known,
    })
}

async fn projects(store: &FeatureStore) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for name in store.projects().await? {
        found.push(project(store, &name).await?);
    }
    Ok(found)
}

/// Deletes a view of any kind, also one that a feature service names: the SDK deletes the views of
/// a repository before its services.
async fn delete_view(store: &FeatureStore, project: &str, name: &str) -> Result<(), Error> {
    let mut kind = Kind::FeatureView;
    for other in VIEW_KINDS {
        if store.find_object(project, other, name).await?.is_some() {
            kind = other;
        }
    }
    store.delete_object(project, kind, name).await
}

async fn whole(store: &FeatureStore) -> Result<Whole, Error> {
    let mut whole = Whole {
        schema_version: "1".to_owned(),
        ..Whole::default()
    };
    whole.projects = projects(store).await?;
    for project in store.projects().await? {
        for (kind, into) in [
            (Kind::Entity, &mut whole.entities),
            (Kind::FeatureView, &mut whole.feature_views),
            (Kind::FeatureService, &mut whole.feature_services),
            (Kind::DataSource, &mut whole.data_sources),
            (ON_DEMAND, &mut whole.on_demand),
            (STREAM, &mut whole.stream),
            (LABEL, &mut whole.labels),
            (SAVED_DATASET, &mut whole.saved_datasets),
            (VALIDATION, &mut whole.validation_references),
            (PERMISSION, &mut whole.permissions),
        ] {
            into.extend(
                store
                    .objects(&project, kind)
                    .await?
                    .into_iter()
                    .map(|row| row.spec),
            );
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_dataset_is_told_from_a_feature_service() {
        let projection = proto::Projection {
            feature_view_name: "orders".to_owned(),
            feature_view_name_alias: "orders:of_buyers".to_owned(),
            ..proto::Projection::default()
        };
        let spec = proto::FeatureServiceSpec {
            name: "churn".to_owned(),
            features: vec![projection],
            ..proto::FeatureServiceSpec::default()
        };
        let service = proto::FeatureService {
            spec: Some(spec),
            meta: None,
        };
        let service = service.encode_to_vec();
        assert_eq!(
            kind_meant(Kind::FeatureService, &service),
            Kind::FeatureService
        );
        let spec = proto::SavedDatasetSpec {
            features: vec!["orders:total_orders".to_owned()],
            storage: Some(Vec::new()),
            ..proto::SavedDatasetSpec::default()
        };
        let dataset = proto::SavedDataset { spec: Some(spec) };
        let dataset = dataset.encode_to_vec();
        assert_eq!(kind_meant(Kind::FeatureService, &dataset), SAVED_DATASET);
        assert_eq!(kind_meant(Kind::Entity, &dataset), Kind::Entity);
    }
}
