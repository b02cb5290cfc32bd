//! One group: its limits, its members, what they used, its end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{Places, Version};
use crate::error::Error;
use crate::process::Usage;
use crate::spec::Limits;

/// The period of processor quotas, in microseconds; the kernel's default.
const PERIOD_US: f64 = 100_000.0;

/// A group of processes. Its folders are removed by [`Group::remove`].
#[derive(Debug)]
pub(crate) struct Group {
    memory: PathBuf,
    pids: PathBuf,
    cpu: PathBuf,
    unified: Option<PathBuf>,
    version: Version,
}

impl Group {
    pub(super) fn create(places: &Places, name: &str, limits: &Limits) -> Result<Self, Error> {
        let group = Self {
            memory: places.memory.join(name),
            pids: places.pids.join(name),
            cpu: places.cpu.join(name),
            unified: places.unified.as_ref().map(|p| p.join(name)),
            version: places.version,
        };
        let made = group
            .folders()
            .into_iter()
            .try_for_each(fs::create_dir)
            .and_then(|()| group.bound(limits));
        if let Err(source) = made {
            group.remove();
            return Err(Error::start(
                format!("make the control group {name}"),
                source,
            ));
        }
        Ok(group)
    }

    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = [&self.memory, &self.pids, &self.cpu]
            .into_iter()
            .chain(self.unified.as_ref())
            .map(PathBuf::as_path)
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    fn bound(&self, limits: &Limits) -> io::Result<()> {
        let two = self.version == Version::Two;
        if let Some(bytes) = limits.memory_bytes {
            let bytes = bytes.to_string();
            if two {
                write(&self.memory, "memory.max", &bytes)?;
                write_if_there(&self.memory, "memory.swap.max", "0")?;
                write_if_there(&self.memory, "memory.oom.group", "1")?;
            } else {
                write(&self.memory, "memory.limit_in_bytes", &bytes)?;
                write_if_there(&self.memory, "memory.memsw.limit_in_bytes", &bytes)?;
            }
        }
        if let Some(count) = limits.processes {
            write(&self.pids, "pids.max", &count.to_string())?;
        }
        if let Some(cpus) = limits.cpus {
            let quota = (cpus * PERIOD_US).max(1_000.0).round();
            if two {
                write(&self.cpu, "cpu.max", &format!("{quota} {PERIOD_US}"))?;
            } else {
                write(&self.cpu, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
                write(&self.cpu, "cpu.cfs_quota_us", &quota.to_string())?;
            }
        }
        Ok(())
    }

    /// Puts a process, and all it will start, into the group.
    pub(crate) fn add(&self, pid: Pid) -> Result<(), Error> {
        let pid = pid.as_raw_pid().to_string();
        self.folders()
            .into_iter()
            .try_for_each(|folder| write(folder, "cgroup.procs", &pid))
            .map_err(|e| Error::start("put a process into its control group", e))
    }

    /// Files into which a process writes `0` to enter the group itself.
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |folder: &Path| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(folder.join("cgroup.procs"))?;
            Ok(OwnedFd::from(file))
        };
        let opened: io::Result<Vec<OwnedFd>> = self.folders().into_iter().map(open).collect();
        opened.map_err(|e| Error::start("open a control group", e))
    }

    /// Kills every member.
    pub(crate) fn kill(&self) {
        let killed = self
            .unified
            .as_ref()
            .is_some_and(|folder| write(folder, "cgroup.kill", "1").is_ok());
        if !killed {
            for pid in self.members() {
                // It may have ended by itself since the list was read.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn members(&self) -> Vec<Pid> {
        let folder = self.unified.as_ref().unwrap_or(&self.pids);
        fs::read_to_string(folder.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok().and_then(Pid::from_raw))
            .collect()
    }

    /// Whether no process is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    /// Whether the kernel killed a member for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        keyed(&self.memory, file, "oom_kill").is_some_and(|count| count > 0)
    }

    /// What the members, also those that have ended, have used.
    pub(crate) fn usage(&self) -> Usage {
        let peak = match self.version {
            Version::One => number(&self.memory, "memory.max_usage_in_bytes"),
            // memory.peak came with Linux 5.19.
            Version::Two => number(&self.memory, "memory.peak")
                .or_else(|| number(&self.memory, "memory.current")),
        };
        let microseconds = self
            .unified
            .as_ref()
            .and_then(|folder| keyed(folder, "cpu.stat", "usage_usec"));
        Usage {
            peak_memory_bytes: peak.unwrap_or(0),
            cpu_seconds: microseconds.unwrap_or(0) as f64 / 1e6,
        }
    }

    /// The memory that the members have for themselves now, without files that the kernel caches.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let kinds: &[&str] = match self.version {
            Version::One => &["total_rss", "total_shmem"],
            Version::Two => &["anon", "shmem"],
        };
        let bytes = kinds
            .iter()
            .filter_map(|kind| keyed(&self.memory, "memory.stat", kind));
        bytes.sum()
    }

    /// Waits shortly for killed members to be gone, and removes the folders. Blocks.
    pub(crate) fn remove_when_empty(&self) {
        for _ in 0..500 {
            if self.is_empty() {
                break;
            }
            self.kill();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.remove();
    }

    /// Removes the folders; the group must be empty.
    pub(crate) fn remove(&self) {
        for folder in self.folders() {
            if let Err(error) = fs::remove_dir(folder)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "a control group stays behind");
            }
        }
    }
}

fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("{} = {value}: {e}", path.display())))
}

fn write_if_there(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    if folder.join(file).exists() {
        write(folder, file, value)
    } else {
        Ok(())
    }
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The value of `key` in a file of `key value` lines.
fn keyed(folder: &Path, file: &str, key: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file))
        .ok()?
        .lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of files stands in for a version 2 tree; its content is what the kernel would read.
    #[test]
    fn limits_are_written_in_the_form_of_version_two() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().to_owned();
        let places = Places {
            memory: parent.clone(),
            pids: parent.clone(),
            cpu: parent.clone(),
            unified: Some(parent.clone()),
            version: Version::Two,
        };
        let limits = Limits {
            memory_bytes: Some(1 << 30),
            cpus: Some(1.5),
            processes: Some(64),
            ..Limits::default()
        };
        let group = Group::create(&places, "1-0", &limits).unwrap();
        let read = |file: &str| fs::read_to_string(parent.join("1-0").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("pids.max"), "64");

        let told = |file: &str, text: &str| fs::write(parent.join("1-0").join(file), text).unwrap();
        told(
            "memory.events",
            "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n",
        );
        told("memory.peak", "4096\n");
        told("memory.stat", "anon 1000\nfile 5000\nshmem 24\n");
        assert_eq!(group.memory_bytes(), 1024);
        told("cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
        assert!(group.ran_out_of_memory());
        assert_eq!(
            group.usage(),
            Usage {
                peak_memory_bytes: 4096,
                cpu_seconds: 2.5
            }
        );
    }
}
