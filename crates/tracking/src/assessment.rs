//! Assessments: what people and programs think of a trace. What the value is, is the client's
//! affair: the protobuf JSON that it sent is kept and given back (`assessments.proto`).

use serde_json::{Map, Value};
use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::id;
use crate::key;
use crate::store::{assessments, traces};

/// The longest name, in characters, and the largest assessment, in bytes.
const MAX_NAME_CHARS: usize = 250;
const MAX_BYTES: usize = 256 * 1024;

/// The fields that an update may name, as they are named in its mask and in the message.
const CHANGEABLE: [(&str, &str); 7] = [
    ("assessmentname", "assessment_name"),
    ("expectation", "expectation"),
    ("feedback", "feedback"),
    ("issue", "issue"),
    ("rationale", "rationale"),
    ("metadata", "metadata"),
    ("valid", "valid"),
];

/// An assessment of a trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assessment {
    pub(crate) assessment_id: String,
    pub(crate) trace_id: String,
    /// The whole message, with its ids and times.
    pub(crate) message: Map<String, Value>,
    pub(crate) created_at: i64,
}

fn not_found(assessment_id: &str, trace_id: &str) -> Error {
    Error::NotFound(format!(
        "Assessment with ID '{assessment_id}' not found for trace '{trace_id}'"
    ))
}

fn check(message: &Map<String, Value>) -> Result<(), Error> {
    let name = message.get("assessment_name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Error::Missing("assessment.assessment_name".to_owned()))?;
    key::check_length(name, MAX_NAME_CHARS, "assessment.assessment_name")?;
    let values = ["expectation", "feedback", "issue"];
    if !values.iter().any(|value| message.contains_key(*value)) {
        return Err(Error::Invalid(
            "An assessment holds one of 'feedback', 'expectation' and 'issue'".to_owned(),
        ));
    }
    if serde_json::to_string(message).is_ok_and(|text| text.len() > MAX_BYTES) {
        return Err(Error::Invalid(format!(
            "The assessment is larger than {MAX_BYTES} bytes"
        )));
    }
    Ok(())
}

impl Tracking {
    /// Adds an assessment to a trace. One that overrides another makes that one invalid.
    pub(crate) async fn create_assessment(
        &self,
        trace_id: &str,
        message: Map<String, Value>,
        job_id: Option<&str>,
    ) -> Result<Assessment, Error> {
        let mut message = message;
        check(&message)?;
        let now = Timestamp::now();
        let assessment_id = format!("a-{}", id::random_hex()?);
        message.insert("assessment_id".to_owned(), assessment_id.clone().into());
        message.insert("trace_id".to_owned(), trace_id.into());
        for time in ["create_time", "last_update_time"] {
            let now = Value::from(now.to_string());
            message.entry(time).or_insert(now);
        }
        message.entry("valid").or_insert(true.into());
        let overrides = message.get("overrides").and_then(Value::as_str);
        let overrides = overrides.filter(|id| !id.is_empty()).map(str::to_owned);
        let mut tx = self.db.begin().await?;
        let trace = traces::find(&mut tx, trace_id).await?;
        let trace = trace.ok_or_else(|| crate::trace::not_found(trace_id))?;
        crate::trace::check_owner(&trace, job_id)?;
        if let Some(old) = overrides {
            let found = assessments::find(&mut tx, trace_id, &old).await?;
            let mut found = found.ok_or_else(|| not_found(&old, trace_id))?;
            found.message.insert("valid".to_owned(), false.into());
            assessments::update(&mut tx, &found).await?;
        }
        let assessment = Assessment {
            assessment_id,
            trace_id: trace_id.to_owned(),
            message,
            created_at: now.0,
        };
        assessments::insert(&mut tx, &assessment).await?;
        tx.commit().await?;
        Ok(assessment)
    }

    /// The assessment of a trace with this id.
    pub(crate) async fn get_assessment(
        &self,
        trace_id: &str,
        assessment_id: &str,
    ) -> Result<Assessment, Error> {
        let mut conn = self.db.acquire().await?;
        let found = assessments::find(&mut conn, trace_id, assessment_id).await?;
        found.ok_or_else(|| not_found(assessment_id, trace_id))
    }

    /// Changes the fields of an assessment that the mask names.
    pub(crate) async fn update_assessment(
        &self,
        (trace_id, assessment_id): (&str, &str),
        mut change: Map<String, Value>,
        mask: &[String],
        job_id: Option<&str>,
    ) -> Result<Assessment, Error> {
        let mut tx = self.db.begin().await?;
        let trace = traces::find(&mut tx, trace_id).await?;
        let trace = trace.ok_or_else(|| crate::trace::not_found(trace_id))?;
        crate::trace::check_owner(&trace, job_id)?;
        let found = assessments::find(&mut tx, trace_id, assessment_id).await?;
        let mut assessment = found.ok_or_else(|| not_found(assessment_id, trace_id))?;
        for path in mask {
            let plain = path.replace('_', "").to_ascii_lowercase();
            let field = CHANGEABLE.iter().find(|(name, _)| *name == plain);
            let (_, field) = field.ok_or_else(|| {
                Error::Invalid(format!("'{path}' of an assessment cannot be changed"))
            })?;
            match change.remove(*field) {
                Some(value) => assessment.message.insert((*field).to_owned(), value),
                None => assessment.message.remove(*field),
            };
        }
        check(&assessment.message)?;
        let now = Timestamp::now().to_string();
        assessment
            .message
            .insert("last_update_time".to_owned(), now.into());
        assessments::update(&mut tx, &assessment).await?;
        tx.commit().await?;
        Ok(assessment)
    }

    /// Removes an assessment; one that is not there is fine. What it overrode is valid again.
    pub(crate) async fn delete_assessment(
        &self,
        trace_id: &str,
        assessment_id: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let trace = traces::find(&mut tx, trace_id).await?;
        let trace = trace.ok_or_else(|| crate::trace::not_found(trace_id))?;
        crate::trace::check_owner(&trace, job_id)?;
        let deleted = assessments::find(&mut tx, trace_id, assessment_id).await?;
        assessments::delete(&mut tx, trace_id, assessment_id).await?;
        let overrode = deleted
            .as_ref()
            .and_then(|deleted| deleted.message.get("overrides"));
        if let Some(old) = overrode.and_then(Value::as_str)
            && let Some(mut old) = assessments::find(&mut tx, trace_id, old).await?
        {
            old.message.insert("valid".to_owned(), true.into());
            assessments::update(&mut tx, &old).await?;
        }
        Ok(tx.commit().await?)
    }
}
