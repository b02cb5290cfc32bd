//! Resource limits of each process (prlimit(2)).

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::error::Error;
use crate::spec::Limits;

/// The limits as pairs, computed before a fork. `others` is how many processes the user has that
/// count too: all of the machine's, where there is no user namespace.
pub(crate) fn list(
    limits: &Limits,
    kernel_bounds_memory: bool,
    others: u64,
) -> Vec<(Resource, u64)> {
    const GIB: u64 = 1 << 30;
    let mut list = vec![(Resource::Core, 0)];
    if let Some(count) = limits.open_files {
        list.push((Resource::Nofile, count));
    }
    if let Some(bytes) = limits.file_size_bytes {
        list.push((Resource::Fsize, bytes));
    }
    if let Some(count) = limits.processes {
        list.push((Resource::Nproc, others.saturating_add(u64::from(count))));
    }
    if let Some(bytes) = limits.memory_bytes
        && !kernel_bounds_memory
    {
        // A backstop for what grows faster than it is sampled. Above the limit itself, for data
        // counts that is reserved and never touched (thread stacks, arenas).
        list.push((Resource::Data, bytes.saturating_mul(2).saturating_add(GIB)));
    }
    list
}

/// Sets the limits of a process, or of the caller.
pub(crate) fn apply(pid: Option<Pid>, list: &[(Resource, u64)]) -> Result<(), Errno> {
    for (resource, value) in list {
        // Raising a hard limit needs a capability that even root may lack in a container.
        let value = getrlimit(*resource)
            .maximum
            .map_or(*value, |most| most.min(*value));
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        prlimit(pid, *resource, limit)?;
    }
    Ok(())
}

/// Sets the limits of another process, telling what failed.
pub(crate) fn apply_to(pid: Pid, list: &[(Resource, u64)]) -> Result<(), Error> {
    apply(Some(pid), list).map_err(|e| Error::start("limit the resources of a process", e))
}
