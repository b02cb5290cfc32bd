//! Uploads in parts that clients send to the bucket by themselves, as MLflow's artifact proxy
//! offers them; without a bucket they are told to send the file in one request.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use web::{Caller, Identity, MlflowError, Permission, Routes};

use super::artifacts::decoded;
use super::presigned::Headers;
use crate::Tracking;
use crate::artifact::bucket::MAX_PARTS;
use crate::error::Error;
use crate::location::Location;
use crate::owner::Change;
use crate::wire::{Empty, Int, List, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    let step = |name: &str| format!("{prefix}/2.0/mlflow-artifacts/mpu/{name}/{{*path}}");
    let write = Permission::WriteTracking;
    routes
        .post(&step("create"), write, create)
        .post(&step("complete"), write, complete)
        .post(&step("abort"), write, abort)
}

#[derive(Deserialize)]
struct CreateMultipartRequest {
    path: Option<String>,
    num_parts: Option<Int>,
}

#[derive(Serialize)]
struct CreateMultipartResponse {
    upload_id: String,
    credentials: Vec<PartCredential>,
}

/// Where to send one part.
#[derive(Serialize)]
struct PartCredential {
    url: String,
    part_number: usize,
    headers: Headers,
}

#[derive(Deserialize)]
struct CompleteMultipartRequest {
    path: Option<String>,
    upload_id: Option<String>,
    #[serde(default)]
    parts: List<Part>,
}

#[derive(Deserialize)]
struct Part {
    part_number: Int,
    etag: Option<String>,
}

#[derive(Deserialize)]
struct AbortMultipartRequest {
    path: Option<String>,
    upload_id: Option<String>,
}

type FolderPath = Result<Path<String>, PathRejection>;

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    folder: FolderPath,
    MlflowRequest(request): MlflowRequest<CreateMultipartRequest>,
) -> MlflowResult<CreateMultipartResponse> {
    let file = writable(&tracking, &caller, folder, request.path).await?;
    let asked = request.num_parts.map_or(1, |parts| parts.0);
    let parts = u16::try_from(asked)
        .ok()
        .filter(|parts| (1..=MAX_PARTS).contains(parts))
        .ok_or_else(|| {
            let reason = format!("a file has 1 to {MAX_PARTS} parts");
            Error::field("num_parts", asked.to_string(), reason)
        })?;
    let begun = tracking.artifacts().create_multipart(&file, parts).await?;
    let credentials = begun.part_urls.into_iter().zip(1..);
    Ok(Json(CreateMultipartResponse {
        upload_id: begun.upload_id,
        credentials: credentials
            .map(|(url, part_number)| PartCredential {
                url,
                part_number,
                headers: Headers {},
            })
            .collect(),
    }))
}

async fn complete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    folder: FolderPath,
    MlflowRequest(request): MlflowRequest<CompleteMultipartRequest>,
) -> MlflowResult<Empty> {
    let file = writable(&tracking, &caller, folder, request.path).await?;
    let upload_id = required(request.upload_id, "upload_id")?;
    let etags = in_order(request.parts.0)?;
    let artifacts = tracking.artifacts();
    artifacts
        .complete_multipart(&file, &upload_id, etags)
        .await?;
    Ok(Json(Empty {}))
}

async fn abort(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    folder: FolderPath,
    MlflowRequest(request): MlflowRequest<AbortMultipartRequest>,
) -> MlflowResult<Empty> {
    let file = writable(&tracking, &caller, folder, request.path).await?;
    let upload_id = required(request.upload_id, "upload_id")?;
    tracking
        .artifacts()
        .abort_multipart(&file, &upload_id)
        .await?;
    Ok(Json(Empty {}))
}

/// The file that a request is about: the folder in the URL, the name in the body.
async fn writable(
    tracking: &Tracking,
    caller: &Identity,
    folder: FolderPath,
    path: Option<String>,
) -> Result<Location, MlflowError> {
    let file = decoded(folder)?.join(file_name(&required(path, "path")?))?;
    if file.name().is_empty() {
        return Err(Error::Missing("path".to_owned()).into());
    }
    let allowed = tracking.check_may_change_artifact(caller, &file, Change::Write);
    allowed.await?;
    super::presigned::refuse_job(caller, "Multipart upload is not supported")?;
    Ok(file)
}

/// Clients before 3.18 send the path of the file on their own disk.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// The entity tags of parts 1 to the last.
fn in_order(mut parts: Vec<Part>) -> Result<Vec<String>, Error> {
    if parts.is_empty() {
        return Err(Error::Missing("parts".to_owned()));
    }
    parts.sort_by_key(|part| part.part_number.0);
    let mut etags = Vec::with_capacity(parts.len());
    for (part, number) in parts.into_iter().zip(1..) {
        if part.part_number.0 != number {
            let reason = "the parts must be numbered from 1 on without a gap or a repetition";
            let given = part.part_number.0.to_string();
            return Err(Error::field("parts.part_number", given, reason));
        }
        etags.push(required(part.etag, "parts.etag")?);
    }
    Ok(etags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: i64) -> Part {
        Part {
            part_number: Int(number),
            etag: Some(number.to_string()),
        }
    }

    #[test]
    fn parts_are_put_in_order_and_none_may_be_missing() {
        let etags = in_order(vec![part(3), part(1), part(2)]).unwrap();
        assert_eq!(etags, ["1", "2", "3"]);
        for wrong in [vec![], vec![part(2)], vec![part(1), part(1)], vec![part(0)]] {
            assert!(in_order(wrong).is_err());
        }
        assert!(
            in_order(vec![Part {
                part_number: Int(1),
                etag: None
            }])
            .is_err()
        );
    }

    #[test]
    fn only_the_name_of_a_clients_path_counts() {
        assert_eq!(file_name("/home/me/model.pkl"), "model.pkl");
        assert_eq!(file_name("C:\\models\\model.pkl"), "model.pkl");
        assert_eq!(file_name("model.pkl"), "model.pkl");
        assert_eq!(file_name("/home/me/"), "");
    }
}
