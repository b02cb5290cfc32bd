//! `feast.registry.RegistryServer`: the registry as the Feast SDK's remote mode sees it.
//!
//! Definitions go in and out as the bytes they are. Each is stored at once when it is applied, so
//! `Commit` and `Refresh` have nothing to do.

mod calls;
mod definition;
mod messages;
mod projects;

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::State;
use prost::Message;
use web::{Routes, Timestamp};

use self::calls::{CALLS, Call};
use self::definition::{PERMISSION, SAVED_DATASET, has_tags, is_within, kind_meant, name_of};
use self::messages::{
    AnyView, ApplyMaterializationRequest, ApplyProjectRequest, ApplyRequest, ApplyViewRequest,
    DeleteProjectRequest, GetAnyViewResponse, ListProjectsRequest, ListRequest, ListResponse,
    NameRequest, Whole, WithinRequest,
};
use super::grpc;
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::on_demand::ON_DEMAND;
use crate::proto;
use crate::registry::{LABEL, PROJECT, STREAM, VALIDATION, VIEW_KINDS};

const SERVICE: &str = "feast.registry.RegistryServer";

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
            let given = given.filter_map(|(kind, object)| Some((kind, object?)));
            let given: Vec<_> = given.collect();
            if given.is_empty() {
                return Err(Error::Invalid("there is no view in the request".to_owned()));
            }
            for (kind, object) in given {
                apply(store, &project, kind, object, now).await?;
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
            projects::get(store, &name).await?
        }
        Call::DeleteProject => {
            let DeleteProjectRequest { name } = DeleteProjectRequest::decode(request)?;
            projects::delete(store, &name).await?;
            nothing
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
        Call::ListProjects => {
            let ListProjectsRequest { tags } = ListProjectsRequest::decode(request)?;
            let items = projects::list(store, &tags).await?;
            ListResponse { items }.encode_to_vec()
        }
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
    whole.projects = projects::list(store, &HashMap::new()).await?;
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
