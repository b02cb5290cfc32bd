//! MLflow's routes of assessments (`assessments.proto`).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use web::{Caller, Path, Permission, Routes};

use crate::Tracking;
use crate::assessment::Assessment;
use crate::wire::{Empty, MlflowRequest, MlflowResult, required, required_value};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let all = format!("{prefix}/3.0/mlflow/traces/{{trace_id}}/assessments");
    let one = format!("{all}/{{assessment_id}}");
    routes
        .post(&all, WriteTracking, create)
        .get(&one, ReadTracking, get)
        .patch(&one, WriteTracking, update)
        .delete(&one, WriteTracking, delete)
}

#[derive(Deserialize)]
struct ChangeRequest {
    assessment: Option<Map<String, Value>>,
    /// A FieldMask: `assessmentName,feedback`.
    update_mask: Option<String>,
}

#[derive(Serialize)]
struct AssessmentResponse {
    assessment: Map<String, Value>,
}

fn answer(assessment: Assessment) -> Json<AssessmentResponse> {
    Json(AssessmentResponse {
        assessment: assessment.message,
    })
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(trace_id): Path<String>,
    MlflowRequest(request): MlflowRequest<ChangeRequest>,
) -> MlflowResult<AssessmentResponse> {
    let message = required_value(request.assessment, "assessment")?;
    let made = tracking.create_assessment(&trace_id, message, caller.job_id());
    Ok(answer(made.await?))
}

async fn get(
    State(tracking): State<Tracking>,
    Path((trace_id, assessment_id)): Path<(String, String)>,
) -> MlflowResult<AssessmentResponse> {
    let found = tracking.get_assessment(&trace_id, &assessment_id);
    Ok(answer(found.await?))
}

async fn update(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path((trace_id, assessment_id)): Path<(String, String)>,
    MlflowRequest(request): MlflowRequest<ChangeRequest>,
) -> MlflowResult<AssessmentResponse> {
    let change = required_value(request.assessment, "assessment")?;
    let mask = required(request.update_mask, "update_mask")?;
    let mask: Vec<String> = mask.split(',').map(|path| path.trim().to_owned()).collect();
    let id = (trace_id.as_str(), assessment_id.as_str());
    let updated = tracking.update_assessment(id, change, &mask, caller.job_id());
    Ok(answer(updated.await?))
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path((trace_id, assessment_id)): Path<(String, String)>,
) -> MlflowResult<Empty> {
    tracking
        .delete_assessment(&trace_id, &assessment_id, caller.job_id())
        .await?;
    Ok(Json(Empty {}))
}
