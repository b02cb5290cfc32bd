//! A process and its descendants, as /proc shows them.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// The unit of times in /proc: USER_HZ, which is 100 on every processor we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a tree holds and has used at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) processes: u64,
    /// Memory of their own: not the files they have mapped.
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// The descendants of `root`, without itself.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if let Some(parent) = Stat::read(pid).map(|stat| stat.parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw_pid()];
    while let Some(pid) = next.pop() {
        let born = children.remove(&pid).unwrap_or_default();
        found.extend(born.iter().copied().filter_map(Pid::from_raw));
        next.extend(born);
    }
    found
}

/// Measures the descendants of `root`, also those it has reaped, without itself.
pub(crate) fn sample(root: Pid) -> Sample {
    let reaped = Stat::read(root.as_raw_pid()).map_or(0.0, |stat| stat.reaped_cpu_seconds);
    let mut sample = Sample {
        cpu_seconds: reaped,
        ..Sample::default()
    };
    for pid in descendants(root) {
        let pid = pid.as_raw_pid();
        if let Some(stat) = Stat::read(pid) {
            sample.processes += 1;
            sample.cpu_seconds += stat.cpu_seconds + stat.reaped_cpu_seconds;
            sample.memory_bytes += own_memory(pid);
        }
    }
    sample
}

/// How many processes and threads the calling user has on this machine.
pub(crate) fn of_this_user() -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let user = rustix::process::getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.metadata().is_ok_and(|m| m.uid() == user))
        .filter_map(|entry| fs::read_dir(entry.path().join("task")).ok())
        .map(|threads| threads.count() as u64)
        .sum()
}

/// Kills the descendants of `root`, until none is left or only `root` could reap them.
pub(crate) fn kill_descendants(root: Pid) {
    for pid in descendants(root) {
        // It may have ended by itself since it was found.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Fields of /proc/PID/stat, proc_pid_stat(5).
struct Stat {
    parent: i32,
    cpu_seconds: f64,
    reaped_cpu_seconds: f64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name before may hold anything, also spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        let seconds = |field| number(field).unwrap_or(0) as f64 / TICKS_PER_SECOND;
        Some(Self {
            parent: i32::try_from(number(4)?).ok()?,
            cpu_seconds: seconds(14) + seconds(15),
            reaped_cpu_seconds: seconds(16) + seconds(17),
        })
    }
}

fn own_memory(pid: i32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    let kilobytes = |key: &str| -> u64 {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (kilobytes("RssAnon:") + kilobytes("RssShmem:")) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_is_read() {
        let stat =
            Stat::parse("12 (a) b (c) S 7 12 12 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 5 6 7")
                .unwrap();
        assert_eq!(stat.parent, 7);
        assert!((stat.cpu_seconds - 1.5).abs() < 1e-9);
        assert!((stat.reaped_cpu_seconds - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_child_is_found_and_measured() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = rustix::process::getpid();
        assert!(descendants(own).contains(&Pid::from_raw(pid).unwrap()));
        assert!(of_this_user() >= 2);
        kill_descendants(own);
        assert!(!child.wait().unwrap().success());
    }
}
