//! MLflow's `/graphql`, as far as its page asks. Every root field is one of the REST routes, asked
//! as the caller: it can say nothing else, and lets in nobody else.

mod document;
mod resolve;
mod schema;
mod select;

use axum::extract::State;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracking::wire::{MlflowRequest, MlflowResult, required};
use web::{Caller, Permission, Routes, Style};

use document::Field;
use resolve::Resolver;

/// The route; `rest` holds the routes that answer in the end.
pub(crate) fn routes(rest: Router) -> Routes {
    Routes::new(Style::Mlflow)
        .post("/graphql", Permission::ReadTracking, graphql)
        .with_state(rest)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphqlRequest {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<Map<String, Value>>,
}

/// Mistakes are told in the answer, with status 200, as GraphQL has it; MLflow writes them as
/// texts.
async fn graphql(
    State(rest): State<Router>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<GraphqlRequest>,
) -> MlflowResult<Value> {
    let query = required(request.query, "query")?;
    let variables = request.variables.unwrap_or_default();
    let fields = document::read(&query, request.operation_name.as_deref(), &variables)
        .and_then(|fields| select::check(schema::ROOT, &fields).map(|()| fields));
    let fields = match fields {
        Ok(fields) => fields,
        Err(message) => return Ok(Json(json!({ "data": null, "errors": [message] }))),
    };
    Ok(Json(answer(&Resolver::new(rest, caller), &fields).await))
}

async fn answer(resolver: &Resolver, fields: &[Field]) -> Value {
    let mut data = Map::new();
    let mut errors = Vec::new();
    for field in fields {
        let value = resolver.resolve(field).await.unwrap_or_else(|message| {
            errors.push(message);
            Value::Null
        });
        data.insert(field.key.clone(), value);
    }
    json!({ "data": data, "errors": (!errors.is_empty()).then_some(errors) })
}
