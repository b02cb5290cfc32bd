//! Logs that are old enough to go.

use web::Timestamp;

use crate::error::Error;
use crate::log::{Chunk, Stream};
use crate::{Jobs, store};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Jobs whose logs are removed in one transaction.
const BATCH: i64 = 100;

impl Jobs {
    /// Removes the logs of jobs that ended more than `jobs.keep_logs_days` ago, and tells of how
    /// many. A line in place of each says so; what came of the job stays.
    pub async fn prune_logs(&self) -> Result<u64, Error> {
        let days = self.config().keep_logs_days;
        if days == 0 {
            return Ok(0);
        }
        let now = Timestamp::now().0;
        let before = now - i64::from(days) * DAY_MS;
        let notice = Chunk {
            start: 0,
            stream: Stream::Platform,
            at: now,
            content: format!(
                "[the log was removed: it is kept for {days} days (jobs.keep_logs_days)]\n"
            )
            .into_bytes(),
        };
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let mut tx = self.db().begin().await?;
            let old = store::logs::list_old(&mut tx, before, &after, BATCH).await?;
            for job_id in &old {
                store::logs::delete(&mut tx, job_id).await?;
                store::logs::insert(&mut tx, job_id, std::slice::from_ref(&notice)).await?;
            }
            tx.commit().await?;
            count += old.len() as u64;
            match old.into_iter().next_back() {
                Some(last) => after = last,
                None => return Ok(count),
            }
        }
    }
}
