//! Traces: what a traced call was, when, how long and how it ended. Their spans are an artifact,
//! `traces.json`, which the client uploads to where the trace's tag says.

use std::collections::{BTreeMap, HashMap};

use crate::Tracking;
use crate::error::Error;
use crate::experiment;
use crate::id;
use crate::key;
use crate::page::Page;
use crate::search::traces::{Plan, RUN_KEY, TraceSearch};
use crate::store::{experiments, runs, search_traces, traces};

/// The tag that says where the spans are.
pub(crate) const LOCATION_TAG: &str = "mlflow.artifactLocation";

/// Limits of MLflow (`MAX_TRACE_TAG_KEY_LENGTH`, `MAX_TRACE_TAG_VAL_LENGTH`).
const MAX_KEY_CHARS: usize = 250;
const MAX_VALUE_CHARS: usize = 8_000;

/// Longer previews are cut.
const MAX_PREVIEW_CHARS: usize = 10_000;

/// The most characters of an id.
const MAX_ID_CHARS: usize = 50;

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceState {
    #[default]
    Unspecified,
    Ok,
    Error,
    InProgress,
}

impl TraceState {
    /// The word of `service.proto`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "STATE_UNSPECIFIED",
            Self::Ok => "OK",
            Self::Error => "ERROR",
            Self::InProgress => "IN_PROGRESS",
        }
    }

    /// Reads the word; unknown ones are unspecified.
    pub fn parse(text: &str) -> Self {
        const ALL: [TraceState; 3] = [TraceState::Ok, TraceState::Error, TraceState::InProgress];
        let found = ALL.into_iter().find(|state| state.as_str() == text);
        found.unwrap_or_default()
    }

    /// Reads the enum's number in `service.proto`.
    pub(crate) fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::Error,
            3 => Self::InProgress,
            _ => Self::Unspecified,
        }
    }
}

/// A trace without its spans.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    pub trace_id: String,
    pub experiment_id: String,
    /// When it began, in epoch milliseconds.
    pub request_time: i64,
    pub duration_ms: Option<i64>,
    pub state: TraceState,
    pub client_request_id: Option<String>,
    pub request_preview: Option<String>,
    pub response_preview: Option<String>,
    /// The job that made it.
    pub job_id: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// What people and programs think of it: protobuf JSON, the oldest first.
    pub assessments: Vec<serde_json::Value>,
}

/// What ends a trace that was started before, as clients of 2.x do.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceEnd {
    pub(crate) end_time: i64,
    pub(crate) state: TraceState,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) tags: Vec<(String, String)>,
}

/// Which traces to delete.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceDeletion {
    pub(crate) experiment_id: String,
    pub(crate) max_time: Option<i64>,
    pub(crate) max_traces: Option<i64>,
    pub(crate) trace_ids: Vec<String>,
}

impl Trace {
    /// The URI of the folder that its spans are in.
    pub(crate) fn place(&self) -> Option<&str> {
        self.tags.get(LOCATION_TAG).map(String::as_str)
    }
}

fn check_pairs(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    let checked = |(key, value): (String, String)| {
        key::check_length(&key, MAX_KEY_CHARS, "key")?;
        Ok((key, key::cut(value, MAX_VALUE_CHARS)))
    };
    pairs.into_iter().map(checked).collect()
}

/// Ids become a folder's name: letters, digits, `-` and `_`.
pub(crate) fn check_id(trace_id: &str) -> Result<(), Error> {
    key::check_length(trace_id, MAX_ID_CHARS, "trace_id")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !trace_id.bytes().all(plain) {
        return Err(Error::Invalid(format!(
            "Invalid trace ID '{trace_id}': it holds something else than letters, digits, '-' and '_'"
        )));
    }
    Ok(())
}

/// A pattern that only PostgreSQL refuses is the caller's mistake too.
pub(crate) fn search_failed(error: db::Error) -> Error {
    match error.is_refused_pattern() {
        true => Error::Invalid(format!(
            "PostgreSQL does not take the pattern of RLIKE: {error}"
        )),
        false => error.into(),
    }
}

pub(crate) fn not_found(trace_id: &str) -> Error {
    Error::NotFound(format!("Trace with ID '{trace_id}' not found."))
}

pub(crate) fn check_owner(trace: &Trace, job_id: Option<&str>) -> Result<(), Error> {
    match job_id {
        Some(job_id) if trace.job_id.as_deref() != Some(job_id) => Err(Error::NotOwned {
            what: format!("trace {}", trace.trace_id),
            job_id: job_id.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a job that says of a trace that a run of others made it.
pub(crate) async fn check_source_run(
    conn: &mut db::Conn,
    metadata: &BTreeMap<String, String>,
    job_id: Option<&str>,
) -> Result<(), Error> {
    let (Some(run_id), Some(job_id)) = (metadata.get(RUN_KEY), job_id) else {
        return Ok(());
    };
    match runs::find(conn, run_id).await? {
        Some(run) if run.job_id.as_deref() != Some(job_id) => Err(Error::NotOwned {
            what: format!("run {run_id}"),
            job_id: job_id.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Tracking {
    /// Starts a trace, or writes a whole one again; an absent id is made. Its answer says where
    /// the spans belong.
    pub(crate) async fn start_trace(&self, trace: Trace) -> Result<Trace, Error> {
        let mut trace = trace;
        if trace.trace_id.is_empty() {
            trace.trace_id = format!("tr-{}", id::random_hex()?);
        }
        check_id(&trace.trace_id)?;
        trace.metadata = check_pairs(trace.metadata.into_iter().collect())?;
        trace.tags = check_pairs(trace.tags.into_iter().collect())?;
        for preview in [&mut trace.request_preview, &mut trace.response_preview] {
            *preview = preview.take().map(|text| key::cut(text, MAX_PREVIEW_CHARS));
        }
        let experiment_id = experiment::parse_id(&trace.experiment_id)?;
        let mut tx = self.db.begin().await?;
        let location = experiments::location_of_active(&mut tx, experiment_id).await?;
        let Some(location) = location.ok_or_else(|| experiment::not_found(experiment_id))? else {
            return Err(Error::Invalid(format!(
                "The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
            )));
        };
        let place = format!(
            "{}/traces/{}/artifacts",
            location.trim_end_matches('/'),
            trace.trace_id
        );
        trace.tags.insert(LOCATION_TAG.to_owned(), place);
        check_source_run(&mut tx, &trace.metadata, trace.job_id.as_deref()).await?;
        if let Some(old) = traces::find(&mut tx, &trace.trace_id).await? {
            check_owner(&old, trace.job_id.as_deref())?;
            trace.job_id = old.job_id;
        }
        traces::upsert(&mut tx, &trace).await?;
        tx.commit().await?;
        Ok(trace)
    }

    /// Ends a trace that was started before.
    pub(crate) async fn end_trace(
        &self,
        trace_id: &str,
        end: TraceEnd,
        job_id: Option<&str>,
    ) -> Result<Trace, Error> {
        let mut tx = self.db.begin().await?;
        let found = traces::find(&mut tx, trace_id).await?;
        let mut trace = found.ok_or_else(|| not_found(trace_id))?;
        check_owner(&trace, job_id)?;
        trace.duration_ms = Some(end.end_time.saturating_sub(trace.request_time));
        trace.state = end.state;
        trace.metadata.extend(check_pairs(end.metadata)?);
        check_source_run(&mut tx, &trace.metadata, job_id).await?;
        let place = trace.tags.get(LOCATION_TAG).cloned();
        trace.tags.extend(check_pairs(end.tags)?);
        trace
            .tags
            .extend(place.map(|place| (LOCATION_TAG.to_owned(), place)));
        traces::upsert(&mut tx, &trace).await?;
        tx.commit().await?;
        Ok(trace)
    }

    /// The trace with this id.
    pub async fn get_trace(&self, trace_id: &str) -> Result<Trace, Error> {
        let mut conn = self.db.acquire().await?;
        let found = traces::find(&mut conn, trace_id).await?;
        found.ok_or_else(|| not_found(trace_id))
    }

    /// The traces with these ids, in the order of the ids, in which clients show what they searched
    /// for; ids that no trace has are passed over.
    pub(crate) async fn list_traces(&self, trace_ids: &[String]) -> Result<Vec<Trace>, Error> {
        let mut conn = self.db.acquire().await?;
        let mut found = traces::list(&mut conn, trace_ids).await?;
        let places = trace_ids.iter().enumerate();
        let places: HashMap<&str, usize> = places.map(|(place, id)| (id.as_str(), place)).collect();
        found.sort_by_key(|trace| places.get(trace.trace_id.as_str()).copied());
        Ok(found)
    }

    /// The traces that a search finds, and the next page's token.
    pub(crate) async fn search_traces(
        &self,
        search: &TraceSearch,
    ) -> Result<(Vec<Trace>, Option<String>), Error> {
        let plan: Plan = search.plan()?;
        if plan.experiments.is_empty() {
            return Ok((Vec::new(), None));
        }
        if plan.reads_spans() {
            self.add_span_texts_for(&plan).await?;
        }
        let page: Page = plan.page;
        let mut conn = self.db.acquire().await?;
        let found = search_traces::traces(&mut conn, &plan).await;
        let mut found = found.map_err(search_failed)?;
        let token = page.cut(&mut found);
        traces::add_pairs(&mut conn, &mut found).await?;
        Ok((found, token))
    }

    /// Sets a tag.
    pub(crate) async fn set_trace_tag(
        &self,
        trace_id: &str,
        key: String,
        value: String,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let tags = check_pairs(vec![(key, value)])?;
        if tags.contains_key(LOCATION_TAG) {
            return Err(Error::Invalid(format!(
                "the tag {LOCATION_TAG} does not change"
            )));
        }
        let mut tx = self.db.begin().await?;
        let found = traces::find(&mut tx, trace_id).await?;
        check_owner(&found.ok_or_else(|| not_found(trace_id))?, job_id)?;
        traces::set_tags(&mut tx, trace_id, &tags).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a tag.
    pub(crate) async fn delete_trace_tag(
        &self,
        trace_id: &str,
        key: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let found = traces::find(&mut tx, trace_id).await?;
        check_owner(&found.ok_or_else(|| not_found(trace_id))?, job_id)?;
        if key == LOCATION_TAG || !traces::delete_tag(&mut tx, trace_id, key).await? {
            return Err(Error::NotFound(format!(
                "No trace tag with key '{key}' found for trace with ID '{trace_id}'"
            )));
        }
        Ok(tx.commit().await?)
    }

    /// Deletes traces, and tells how many; a job deletes only its own.
    pub(crate) async fn delete_traces(
        &self,
        deletion: &TraceDeletion,
        job_id: Option<&str>,
    ) -> Result<u64, Error> {
        let experiment_id = experiment::parse_id(&deletion.experiment_id)?;
        let by_ids = !deletion.trace_ids.is_empty();
        if by_ids == deletion.max_time.is_some() {
            return Err(Error::Invalid(
                "Either `max_timestamp_millis` or `trace_ids` must be specified, but not both."
                    .to_owned(),
            ));
        }
        if deletion.max_traces.is_some_and(|max| max <= 0) {
            return Err(Error::Invalid(
                "`max_traces` must be a positive integer.".to_owned(),
            ));
        }
        let mut tx = self.db.begin().await?;
        let gone = traces::delete(&mut tx, experiment_id, deletion, job_id).await?;
        tx.commit().await?;
        Ok(gone)
    }
}
