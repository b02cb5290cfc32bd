//! A page of runs with all that they logged. A page may have 50,000 runs: they are read and
//! written some at a time, so that an answer never stands in memory whole.

use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};

use super::json;
use super::run_json::RunJson;
use crate::Tracking;
use crate::error::Error;
use crate::record::RunRecord;
use crate::run::Run;
use crate::search::runs::FoundRuns;

/// Runs that are read and written at once.
pub(super) const PIECE: usize = 250;

/// `{"runs": [...], "next_page_token": ...}`. A failure behind the first runs ends the connection,
/// which clients see as a torn answer.
pub(super) fn answer(tracking: Tracking, found: FoundRuns) -> Response {
    let mut text = b"{".to_vec();
    let any = !found.first.is_empty();
    if any {
        text.extend_from_slice(b"\"runs\":[");
        push_runs(&mut text, found.first);
    }
    let end = end(any, found.token.as_deref());
    if found.rest.is_empty() {
        text.extend_from_slice(&end);
        return json(Body::from(text));
    }
    let pieces: Vec<Vec<Run>> = found.rest.chunks(PIECE).map(<[Run]>::to_vec).collect();
    let rest = stream::iter(pieces).then(move |piece| {
        let tracking = tracking.clone();
        async move {
            let mut text = b",".to_vec();
            push_runs(&mut text, tracking.records(&piece).await?);
            Ok::<_, Error>(text)
        }
    });
    let begin = stream::once(async { Ok(text) });
    let end = stream::once(async { Ok(end) });
    json(Body::from_stream(begin.chain(rest).chain(end)))
}

/// Writes runs with commas between them.
fn push_runs(text: &mut Vec<u8>, records: Vec<RunRecord>) {
    for (index, record) in records.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, &RunJson::from(record))
            .expect("a run is made of texts and numbers");
    }
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
