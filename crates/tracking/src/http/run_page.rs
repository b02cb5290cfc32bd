//! A page of runs with all that they logged. A page may have 50,000 runs: they are read and
//! written some at a time, so that an answer never stands in memory whole.

use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};

use super::json;
use super::run_json::RunJson;
use crate::Tracking;
use crate::error::Error;
use crate::run::Run;

/// Runs that are read and written at once.
const PIECE: usize = 250;

/// `{"runs": [...], "next_page_token": ...}`. A failure behind the first runs ends the connection,
/// which clients see as a torn answer.
pub(super) async fn answer(
    tracking: Tracking,
    runs: Vec<Run>,
    token: Option<String>,
) -> Result<Response, Error> {
    let mut pieces = runs.chunks(PIECE).map(<[Run]>::to_vec);
    let mut text = b"{".to_vec();
    let first = pieces.next().unwrap_or_default();
    if !first.is_empty() {
        text.extend_from_slice(b"\"runs\":[");
        push_runs(&mut text, &tracking, &first).await?;
    }
    let pieces: Vec<Vec<Run>> = pieces.collect();
    let end = end(!first.is_empty(), token.as_deref());
    if pieces.is_empty() {
        text.extend_from_slice(&end);
        return Ok(json(Body::from(text)));
    }
    let rest = stream::iter(pieces).then(move |piece| {
        let tracking = tracking.clone();
        async move {
            let mut text = b",".to_vec();
            push_runs(&mut text, &tracking, &piece).await?;
            Ok::<_, Error>(text)
        }
    });
    let begin = stream::once(async { Ok(text) });
    let end = stream::once(async { Ok(end) });
    Ok(json(Body::from_stream(begin.chain(rest).chain(end))))
}

/// Writes runs with commas between them.
async fn push_runs(text: &mut Vec<u8>, tracking: &Tracking, runs: &[Run]) -> Result<(), Error> {
    for (index, record) in tracking.records(runs).await?.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, &RunJson::from(record))
            .expect("a run is made of texts and numbers");
    }
    Ok(())
}

/// What follows the runs.
fn end(any: bool, token: Option<&str>) -> Vec<u8> {
    let close = if any { "]" } else { "" };
    match token {
        Some(token) => format!("{close},\"next_page_token\":\"{token}\"}}"),
        None => format!("{close}}}"),
    }
    .into_bytes()
}
