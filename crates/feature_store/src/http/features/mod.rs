//! `/feast/features`: create, replace, list, look at and delete feature views.

mod request;
mod response;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, FieldError, Json, Path, Permission, Query, Routes, Timestamp};

use crate::FeatureStore;
use crate::feature_view::FeatureView;
use crate::registry::{Defined, PROJECT};
use request::CreateFeatureViewRequest;
use response::FeatureViewResponse;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes
        .post("/feast/features", Permission::WriteFeatures, create)
        .get("/feast/features", Permission::ReadFeatures, list)
        .get("/feast/features/{name}", Permission::ReadFeatures, get)
        .put("/feast/features/{name}", Permission::WriteFeatures, replace)
        .delete("/feast/features/{name}", Permission::WriteFeatures, delete)
}

#[derive(OpenApi)]
#[openapi(
    paths(create, list, get, replace, delete),
    components(schemas(CreateFeatureViewRequest, CreatedResponse, FeatureViewResponse))
)]
pub(super) struct Api;

#[derive(Debug, Serialize, ToSchema)]
struct CreatedResponse {
    name: String,
    /// Always `registered`.
    status: &'static str,
    feature_count: usize,
    entity_count: usize,
    online_enabled: bool,
    created_at: Timestamp,
    message: String,
}

impl CreatedResponse {
    fn new(view: FeatureView, what: &str) -> Self {
        Self {
            message: format!(
                "Feature view '{}' {what}; its rows come from {}, the time of an event from column {:?}",
                view.name, view.source.name, view.source.timestamp_column
            ),
            name: view.name,
            status: "registered",
            feature_count: view.features.len(),
            entity_count: view.entities.len(),
            online_enabled: view.online,
            created_at: Timestamp(view.created_at),
        }
    }
}

/// Creates a feature view over an Iceberg table.
#[utoipa::path(post, path = "/feast/features", tag = "features", request_body = CreateFeatureViewRequest,
    responses((status = 201, body = CreatedResponse), (status = 200, body = CreatedResponse, description = "the same view was there"),
        (status = 400, description = "a column or type does not fit"), (status = 404, description = "no such table"), (status = 409, description = "the name is taken"),
        (status = 422, description = "a field is missing or wrong")))]
async fn create(
    State(store): State<FeatureStore>,
    Json(request): Json<CreateFeatureViewRequest>,
) -> Result<(StatusCode, Json<CreatedResponse>), ApiError> {
    let new = request.parse()?;
    let defined = store.create_feature_view(new, Timestamp::now().0).await?;
    let (status, what) = if defined.same {
        (
            StatusCode::OK,
            "was registered already, with the same definition",
        )
    } else {
        (StatusCode::CREATED, "was registered")
    };
    Ok((status, Json(CreatedResponse::new(defined.view, what))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReplaceQuery {
    /// Whether only to tell what would change.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct ReplacedResponse {
    #[serde(flatten)]
    view: CreatedResponse,
    /// `created`, `changed` or `unchanged`.
    outcome: &'static str,
    changes: Vec<Change>,
    /// Whether nothing of it was done.
    dry_run: bool,
}

/// A field of a view that is another one than before.
#[derive(Debug, Serialize, ToSchema)]
struct Change {
    field: String,
    #[schema(value_type = Value)]
    before: Value,
    #[schema(value_type = Value)]
    after: Value,
}

/// What differs between two definitions, field by field.
fn changes(before: FeatureView, after: FeatureView) -> Vec<Change> {
    let shown = |view: FeatureView| serde_json::to_value(FeatureViewResponse::from(view));
    let (Ok(Value::Object(before)), Ok(Value::Object(after))) = (shown(before), shown(after))
    else {
        return Vec::new();
    };
    let not_defined = ["created_at", "updated_at", "materialized", "ttl_days"];
    let fields = after
        .into_iter()
        .filter(|(field, _)| !not_defined.contains(&field.as_str()));
    let changed = fields.filter_map(|(field, after)| {
        let before = before.get(&field).cloned().unwrap_or_default();
        (before != after).then_some(Change {
            field,
            before,
            after,
        })
    });
    changed.collect()
}

/// Creates a feature view, or puts the definition in the place of the one that was there. Online
/// values stay, but where the join keys change.
#[utoipa::path(put, path = "/feast/features/{name}", tag = "features", params(("name" = String, Path), ReplaceQuery), request_body = CreateFeatureViewRequest,
    responses((status = 200, body = ReplacedResponse, description = "it was changed, or is the same; or the answer to a dry run"), (status = 201, body = ReplacedResponse, description = "it was not there before"),
        (status = 400, description = "a column or type does not fit"), (status = 404, description = "no such table"), (status = 409, description = "a feature service takes a feature that would be gone, or the name is one of another kind of view"),
        (status = 422, description = "a field is missing or wrong")))]
async fn replace(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    Query(ReplaceQuery { dry_run }): Query<ReplaceQuery>,
    Json(request): Json<CreateFeatureViewRequest>,
) -> Result<(StatusCode, Json<ReplacedResponse>), ApiError> {
    let new = request.parse()?;
    if new.name != name {
        let said = format!("is {:?}, and the address names {name:?}", new.name);
        return Err(FieldError::body(["name"], said).into());
    }
    let now = Timestamp::now().0;
    let Defined { view, before, same } = store.replace_feature_view(new, dry_run, now).await?;
    let (outcome, done, planned) = match (&before, same) {
        (_, true) => ("unchanged", "is the same already", "is the same already"),
        (None, _) => ("created", "was registered", "would be registered"),
        (Some(_), _) => ("changed", "was changed", "would be changed"),
    };
    let status = match outcome {
        "created" if !dry_run => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let changes = before.map_or_else(Vec::new, |before| changes(before, view.clone()));
    let what = if dry_run { planned } else { done };
    let response = ReplacedResponse {
        view: CreatedResponse::new(view, what),
        outcome,
        changes,
        dry_run,
    };
    Ok((status, Json(response)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The project of the SDK; absent: that of everything that is defined over REST.
    project: Option<String>,
    /// Only views of this entity.
    entity: Option<String>,
    /// Only views with this tag: `KEY`, or `KEY=VALUE`.
    tag: Option<String>,
    /// The most views to answer, 1 to 1000.
    #[param(default = 1000, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where to go on: the `next_page_token` of the page before.
    page_token: Option<String>,
}

impl ListQuery {
    fn wants(&self, view: &FeatureView) -> bool {
        let has_tag = |tag: &String| match tag.split_once('=') {
            Some((key, value)) => view.tags.get(key).is_some_and(|there| there == value),
            None => view.tags.contains_key(tag),
        };
        let entity = self.entity.as_ref();
        entity.is_none_or(|name| view.entities.contains(name))
            && self.tag.as_ref().is_none_or(has_tag)
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct FeatureViewsResponse {
    feature_views: Vec<FeatureViewResponse>,
    /// How many there are on all pages.
    total_count: usize,
    /// Null on the last page.
    next_page_token: Option<String>,
}

/// Lists the feature views by name. On-demand views, which have no table, are listed by the SDK.
#[utoipa::path(get, path = "/feast/features", tag = "features", params(ListQuery),
    responses((status = 200, body = FeatureViewsResponse), (status = 422, description = "a parameter is wrong")))]
async fn list(
    State(store): State<FeatureStore>,
    Query(query): Query<ListQuery>,
) -> Result<Json<FeatureViewsResponse>, ApiError> {
    let limit = query.limit.unwrap_or(1000);
    if !(1..=1000).contains(&limit) {
        return Err(FieldError::query("limit", "must be between 1 and 1000").into());
    }
    let project = query.project.as_deref().unwrap_or(PROJECT);
    let mut views = store.feature_views(project).await?;
    views.retain(|view| query.wants(view));
    let total_count = views.len();
    if let Some(last) = &query.page_token {
        views.retain(|view| view.name > *last);
    }
    let more = views.len() > limit;
    views.truncate(limit);
    let last = views.last().map(|view| view.name.clone());
    Ok(Json(FeatureViewsResponse {
        feature_views: views.into_iter().map(Into::into).collect(),
        total_count,
        next_page_token: last.filter(|_| more),
    }))
}

/// Shows a feature view.
#[utoipa::path(get, path = "/feast/features/{name}", tag = "features", params(("name" = String, Path)),
    responses((status = 200, body = FeatureViewResponse), (status = 404, description = "no such view")))]
async fn get(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
) -> Result<Json<FeatureViewResponse>, ApiError> {
    Ok(Json(store.feature_view(PROJECT, &name).await?.into()))
}

/// Deletes a feature view; its table stays.
#[utoipa::path(delete, path = "/feast/features/{name}", tag = "features", params(("name" = String, Path)),
    responses((status = 204), (status = 404, description = "no such view"), (status = 409, description = "a feature service uses it")))]
async fn delete(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    store.delete_feature_view(PROJECT, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
