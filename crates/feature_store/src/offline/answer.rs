//! What a command answers: rows, one batch after the other.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use web::{Identity, Timestamp};

use super::{Command, named_utc};
use crate::FeatureStore;
use crate::answers::{self, Held};
use crate::error::Error;
use crate::historical::{HistoricalRange, RangeRequest};

/// Rows that may be more than memory holds.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

impl Answer {
    /// What a read of features found.
    pub(super) fn of(found: HistoricalRange) -> Result<Self, Error> {
        Ok(Self {
            schema: named_utc(found.about.rows)?.schema(),
            batches: found
                .batches
                .and_then(|rows| std::future::ready(named_utc(rows)))
                .boxed(),
        })
    }

    /// A table that is there, with the memory that is held for it.
    pub(crate) fn whole(rows: RecordBatch, held: Option<Arc<Held>>) -> Self {
        Self {
            schema: rows.schema(),
            batches: answers::batches(rows, held),
        }
    }
}

impl FeatureStore {
    /// `get_historical_features` without entity rows.
    pub(super) async fn offline_range(
        &self,
        command: &Command,
        caller: &Identity,
    ) -> Result<Answer, Error> {
        if command.entity_df_sql.is_some() {
            return Err(Error::Unsupported(
                "entity_df as SQL is not supported, since no SQL engine is here: give a DataFrame, or leave entity_df out and give start_date and end_date; over REST, \"entity_table\" takes the rows of a table"
                    .to_owned(),
            ));
        }
        let now = Timestamp::now().0;
        let (start_us, end_us) = command.times()?;
        let request = RangeRequest {
            views: self.views_of(command, None).await?,
            start_us,
            end_us: end_us.unwrap_or(now.saturating_mul(1000)),
            full_feature_names: command.full_feature_names,
            kept_rows: 0,
        };
        let found = self.historical_range(request).await?;
        self.note_read(caller, &found.about, now).await?;
        Answer::of(found)
    }
}
