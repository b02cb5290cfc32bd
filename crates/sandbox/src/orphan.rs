//! Sandboxes whose server died while bwrap was building them.
//!
//! Inside a sandbox, bwrap first waits for its own outer process, and would wait for ever if that
//! was killed in the instant before it answers. Nothing has run in such a sandbox and nothing
//! will; the next server to start removes it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::bwrap::GATE;

/// Kills every first process of a sandbox whose outer process is gone.
pub(crate) fn clear() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(pid) = pid.filter(|pid| is_orphan(*pid)).and_then(Pid::from_raw) {
            tracing::info!(
                pid = pid.as_raw_pid(),
                "ending a sandbox that a dead server left"
            );
            // Gone by itself is as well.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn is_orphan(pid: i32) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let gate = GATE.as_bytes();
    let is_ours = arguments.windows(gate.len()).any(|part| part == gate);
    if !is_ours {
        return false;
    }
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_first = field("NSpid:").is_some_and(|ids| {
        let ids: Vec<&str> = ids.split_whitespace().collect();
        ids.len() > 1 && ids.last() == Some(&"1")
    });
    // The outer process has the same arguments. It ends after the first one, never before, unless
    // it is killed.
    let parent = field("PPid:").map_or("", str::trim);
    is_first && fs::read(format!("/proc/{parent}/cmdline")).is_ok_and(|other| other != arguments)
}
