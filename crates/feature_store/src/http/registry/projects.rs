//! Projects: what the SDK asks about them, and their end.

use std::collections::HashMap;

use prost::Message as _;

use super::definition::{PERMISSION, SAVED_DATASET, includes};
use super::delete_view;
use crate::FeatureStore;
use crate::error::{Error, Kind};
use crate::proto;
use crate::registry::{PROJECT, VALIDATION, VIEW_KINDS};

/// What a project holds beside its views, in the order in which nothing is left that names another.
const KEPT: [Kind; 6] = [
    VALIDATION,
    SAVED_DATASET,
    Kind::FeatureService,
    Kind::DataSource,
    Kind::Entity,
    PERMISSION,
];

/// A project: as it was applied, else by its name alone when it holds anything.
pub(super) async fn get(store: &FeatureStore, name: &str) -> Result<Vec<u8>, Error> {
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

/// The projects that have these tags.
pub(super) async fn list(
    store: &FeatureStore,
    tags: &HashMap<String, String>,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for name in store.projects().await? {
        let project = get(store, &name).await?;
        let spec = proto::Project::decode(&*project)?.spec;
        if includes(&spec.unwrap_or_default().tags, tags) {
            found.push(project);
        }
    }
    Ok(found)
}

/// Deletes a project with all that it holds, one definition after the other: after an error some are
/// left, and it can be asked for again.
///
/// # Errors
/// When it holds anything and there are others: the SDK's `teardown` asks for the end of every
/// project of a registry, whichever it was called for.
pub(super) async fn delete(store: &FeatureStore, name: &str) -> Result<(), Error> {
    get(store, name).await?;
    let others = store.projects().await?.iter().any(|other| other != name);
    let mut held = Vec::new();
    for kind in VIEW_KINDS.into_iter().chain(KEPT) {
        for row in store.objects(name, kind).await? {
            held.push((kind, row.name));
        }
    }
    if others && !held.is_empty() {
        return Err(Error::InUse(format!(
            "project '{name}' holds {} definitions, and there are other projects: the SDK's teardown would delete them all, so delete the definitions of one project first, with apply(objects, objects_to_delete=[...], partial=False)",
            held.len()
        )));
    }
    for (kind, object) in held {
        if VIEW_KINDS.contains(&kind) {
            delete_view(store, name, &object).await?;
        } else {
            store.delete_object(name, kind, &object).await?;
        }
    }
    if store
        .find_object(name, Kind::Project, name)
        .await?
        .is_some()
    {
        store.delete_object(name, Kind::Project, name).await?;
    }
    Ok(())
}
