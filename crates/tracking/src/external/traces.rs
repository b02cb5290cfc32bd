//! The traces that a job removes on an external server: its own.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{External, JobWrite, Kind};
use crate::error::Error;
use crate::store::stamps;
use crate::wire::Int;

impl External {
    /// Makes of a request to delete traces one that names those of the job's own that it means;
    /// false when there are none. Those of a time are known by when they were noted here, which is
    /// after they began: one that began just before the time may stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that names neither traces nor a time, or both.
    pub(crate) async fn choose_traces(
        &self,
        job_id: &str,
        write: &mut JobWrite,
    ) -> Result<bool, Error> {
        let until = number(write, "max_timestamp_millis")?;
        let most = number(write, "max_traces")?;
        let named: Option<BTreeSet<String>> = match write.fields.get("request_ids") {
            Some(Value::Array(ids)) if !ids.is_empty() => {
                let ids = ids.iter().filter_map(Value::as_str);
                Some(ids.map(str::to_owned).collect())
            }
            _ => None,
        };
        if most.is_some_and(|most| most <= 0) {
            return Err(Error::Invalid(
                "`max_traces` must be a positive integer.".to_owned(),
            ));
        }
        if named.is_some() == until.is_some() {
            return Err(Error::Invalid(
                "Either `max_timestamp_millis` or `trace_ids` must be specified, but not both."
                    .to_owned(),
            ));
        }
        let mut conn = self.db.acquire().await?;
        let mut own = stamps::ids_until(&mut conn, Kind::Trace, job_id, until).await?;
        drop(conn);
        if let Some(named) = &named {
            own.retain(|id| named.contains(id));
        }
        if let Some(most) = most {
            own.truncate(usize::try_from(most).unwrap_or_default());
        }
        let any = !own.is_empty();
        // Nothing else stays: another name for the same would be read beside these.
        let experiment_id = write.text("experiment_id");
        write.fields = Map::from_iter([
            ("experiment_id".to_owned(), json!(experiment_id)),
            ("request_ids".to_owned(), json!(own)),
        ]);
        Ok(any)
    }
}

/// A whole number in a field, which may be written as text.
fn number(write: &JobWrite, name: &str) -> Result<Option<i64>, Error> {
    let Some(value) = write.fields.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match serde_json::from_value(value.clone()) {
        Ok(Int(number)) => Ok(Some(number)),
        Err(_) => Err(Error::field(
            name,
            value.to_string(),
            "it must be a whole number",
        )),
    }
}
