//! Which process the kernel ends first when the whole machine is out of memory.

use rustix::fs::{Mode, OFlags, open};

/// Marks the calling process, and all it will start, before the server and everything else.
/// System calls only.
pub(crate) fn prefer_this_process() {
    let opened = open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    if let Ok(file) = opened {
        // A wish: where it cannot be set, the process runs all the same.
        let _ = rustix::io::write(&file, b"1000");
    }
}
