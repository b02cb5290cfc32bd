//! The calls of the service: what each does, and the permission that it takes.

use web::Permission;

use super::definition::{PERMISSION, SAVED_DATASET};
use crate::error::Kind;
use crate::on_demand::ON_DEMAND;
use crate::registry::{LABEL, STREAM, VALIDATION};

/// What a call does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
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
    DeleteProject,
    Delete(Kind),
    DeleteView,
    Whole,
    /// Nothing is left to do: what is applied is stored.
    Nothing,
}

pub(super) const CALLS: &[(&str, Permission, Call)] = {
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
        ("DeleteProject", Write, Call::DeleteProject),
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
