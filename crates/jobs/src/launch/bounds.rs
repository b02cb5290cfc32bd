//! What one interpreter may use of the machine.

use crate::config::Config;
use crate::job::JobRequest;

/// What bounds an interpreter; one that waits serves only jobs of the same bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpus: Option<f64>,
}

impl Bounds {
    /// What a job asked for, else the defaults.
    pub(crate) fn of(request: &JobRequest, config: &Config) -> Self {
        Self {
            memory_bytes: request
                .memory_bytes
                .or(config.memory_default_bytes)
                .or_else(|| fair_part_of_memory(config.slots())),
            cpus: request.cpus.or(config.cpus_default),
        }
    }
}

/// This job's part of three quarters of the machine's memory, so that all jobs together cannot take
/// the server down with them; but enough for a usual job, where many may run at once.
fn fair_part_of_memory(slots: usize) -> Option<u64> {
    const ENOUGH: u64 = 4 << 30;
    let most = crate::memory::of_machine()?.total_bytes / 4 * 3;
    let part = most / u64::try_from(slots).unwrap_or(u64::MAX);
    Some(part.max(ENOUGH.min(most)))
}
