//! Finding the folders in which groups can be made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of groups that all servers share.
const FOLDER: &str = "asgard";

/// The parent folders of groups, by what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) memory: PathBuf,
    pub(crate) pids: PathBuf,
    pub(crate) cpu: PathBuf,
    /// The version 2 tree, for killing and for counting time. Equal to `memory` in version 2.
    pub(crate) unified: Option<PathBuf>,
    pub(crate) version: Version,
}

/// Which interface the controllers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Places {
    pub(crate) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| format!("cannot read /proc/self/mountinfo: {e}"))?;
        let hierarchies = Hierarchies::parse(&mounts);
        match hierarchies.version_one() {
            Some(parents) => Self::version_one(parents, hierarchies.unified),
            None => {
                let mount = hierarchies
                    .unified
                    .ok_or("no control group file system is mounted")?;
                Self::version_two(&mount)
            }
        }
    }

    fn version_one(
        [memory, pids, cpu]: [PathBuf; 3],
        unified: Option<PathBuf>,
    ) -> Result<Self, String> {
        let folder = |mount: &Path| {
            let folder = mount.join(FOLDER);
            fs::create_dir_all(&folder)
                .map(|()| folder)
                .map_err(|e| format!("cannot make {}/{FOLDER}: {e}", mount.display()))
        };
        Ok(Self {
            memory: folder(&memory)?,
            pids: folder(&pids)?,
            cpu: folder(&cpu)?,
            unified: unified.and_then(|mount| folder(&mount).ok()),
            version: Version::One,
        })
    }

    /// In version 2 the folder is the server's own group, when that was delegated to it, or the
    /// top, which only root of the machine may write.
    fn version_two(mount: &Path) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|text| own_group(&text).map(str::to_owned))
            .unwrap_or_default();
        let own = mount.join(own.trim_start_matches('/'));
        let mut reasons = Vec::new();
        for parent in [own.as_path(), mount] {
            match delegate(parent) {
                Ok(folder) => {
                    return Ok(Self {
                        memory: folder.clone(),
                        pids: folder.clone(),
                        cpu: folder.clone(),
                        unified: Some(folder),
                        version: Version::Two,
                    });
                }
                Err(reason) => reasons.push(reason),
            }
        }
        reasons.dedup();
        Err(reasons.join("; "))
    }

    pub(crate) fn describe(&self) -> &'static str {
        match (self.version, &self.unified) {
            (Version::Two, _) => "version 2",
            (Version::One, Some(_)) => "version 1 with a version 2 tree",
            (Version::One, None) => "version 1",
        }
    }

    /// Every parent folder once.
    pub(crate) fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = [&self.memory, &self.pids, &self.cpu]
            .into_iter()
            .chain(self.unified.as_ref())
            .map(PathBuf::as_path)
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Kills and removes the groups of servers that are no more.
    pub(crate) fn clear_of_dead_servers(&self) {
        for folder in self.folders() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let server = name
                    .to_str()
                    .and_then(|n| n.split_once('-'))
                    .map(|(p, _)| p);
                let alive = server
                    .and_then(|pid| pid.parse::<u32>().ok())
                    .is_none_or(|pid| Path::new(&format!("/proc/{pid}")).exists());
                if !alive {
                    let kill = entry.path().join("cgroup.kill");
                    if kill.exists() {
                        drop(fs::write(kill, "1"));
                    }
                    // A group that is not empty yet stays until the next start.
                    drop(fs::remove_dir(entry.path()));
                }
            }
        }
    }
}

/// Makes `parent/asgard` with the controllers that groups need.
fn delegate(parent: &Path) -> Result<PathBuf, String> {
    const CONTROLLERS: &str = "+memory +pids +cpu";
    let say = |what: &str, e: std::io::Error| format!("cannot {what} in {}: {e}", parent.display());
    let control = parent.join("cgroup.subtree_control");
    if let Err(error) = fs::write(&control, CONTROLLERS) {
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(say("enable the memory, pids and cpu controllers", error));
        }
        // A group with processes cannot have controlled children: step aside into a leaf.
        let leaf = parent.join("asgard.server");
        fs::create_dir_all(&leaf)
            .and_then(|()| fs::write(leaf.join("cgroup.procs"), "0"))
            .and_then(|()| fs::write(&control, CONTROLLERS))
            .map_err(|e| say("enable controllers beside other processes", e))?;
    }
    let folder = parent.join(FOLDER);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("cgroup.subtree_control"), CONTROLLERS))
        .map_err(|e| say("make groups", e))?;
    Ok(folder)
}

/// The path after `0::` in /proc/self/cgroup.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Mount points of the control group file systems.
struct Hierarchies {
    controllers: BTreeMap<String, PathBuf>,
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads the format of proc_pid_mountinfo(5).
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self {
            controllers: BTreeMap::new(),
            unified: None,
        };
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = place.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut kind = kind.split(' ');
            match kind.next() {
                Some("cgroup2") => found.unified = Some(point),
                Some("cgroup") => {
                    for option in kind.nth(1).unwrap_or_default().split(',') {
                        found.controllers.insert(option.to_owned(), point.clone());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The memory, pids and cpu hierarchies, when they are version 1.
    fn version_one(&self) -> Option<[PathBuf; 3]> {
        let get = |name: &str| self.controllers.get(name).cloned();
        Some([get("memory")?, get("pids")?, get("cpu")?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_layout_is_read_from_mountinfo() {
        let text = "\
30 23 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
34 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
";
        let found = Hierarchies::parse(text);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found.version_one(),
            Some(["memory", "pids", "cpu,cpuacct"].map(|n| Path::new("/sys/fs/cgroup").join(n)))
        );
    }

    #[test]
    fn a_version_two_layout_has_no_separate_controllers() {
        let found = Hierarchies::parse("29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
        assert_eq!(found.version_one(), None);
        assert_eq!(found.unified, Some("/sys/fs/cgroup".into()));
        assert_eq!(
            own_group("0::/system.slice/asgard.service\n"),
            Some("/system.slice/asgard.service")
        );
    }
}
