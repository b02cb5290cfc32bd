//! Refusing the machine's files and network where there are no namespaces.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};

use crate::error::Error;
use crate::files;
use crate::spec::{Network, Spec};

/// The newest interface whose every right is asked for; an older kernel gives what it knows.
const NEWEST: ABI = ABI::V6;

/// What may be read besides the system's folders: what libraries look up about the machine.
const READABLE: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/filesystems",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/etc/passwd",
];

const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/shm",
];

/// Whether this kernel can keep processes from signalling others (Linux 6.12).
pub(crate) fn keeps_signals() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::Signal)
        .is_ok()
}

/// The rules for a process, made before the fork.
///
/// # Errors
/// When the kernel cannot refuse files or, where the network is asked to be closed, TCP (Linux
/// 6.7): less than that would be no refusal.
pub(crate) fn rules(spec: &Spec) -> Result<RulesetCreated, Error> {
    let failed = |e: landlock::RulesetError| Error::Setup(format!("Landlock: {e}"));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(failed)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed)?
        .scope(Scope::from_all(NEWEST))
        .map_err(failed)?;
    if spec.network != Network::Host {
        ruleset = ruleset
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::from_all(NEWEST))
            .map_err(failed)?
            .set_compatibility(CompatLevel::BestEffort);
    }
    let mut created = ruleset.create().map_err(failed)?;
    for (path, access) in allowed(spec)? {
        // Rights on a file are those that a file can have.
        let is_folder = path.is_dir();
        let access = if is_folder {
            access
        } else {
            access & AccessFs::from_file(NEWEST)
        };
        let opened = PathFd::new(&path).map_err(|e| Error::Path {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        created = created
            .add_rule(PathBeneath::new(opened, access))
            .map_err(failed)?;
    }
    if let Network::Doors(ports) = &spec.network {
        for port in ports {
            created = created
                .add_rule(NetPort::new(*port, AccessNet::ConnectTcp))
                .map_err(failed)?;
        }
    }
    Ok(created)
}

/// Paths and what may be done beneath them.
fn allowed(spec: &Spec) -> Result<Vec<(PathBuf, BitFlags<AccessFs>)>, Error> {
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    let mut allowed = vec![(spec.work_dir.clone(), all)];
    let system = files::shared(&spec.network);
    allowed.extend(system.map(|path| (PathBuf::from(path), read)));
    let readable = READABLE.iter().filter(|path| Path::new(path).exists());
    allowed.extend(readable.map(|path| (PathBuf::from(path), read & !AccessFs::Execute)));
    let devices = DEVICES.iter().filter(|path| Path::new(path).exists());
    allowed.extend(devices.map(|path| (PathBuf::from(path), all & !AccessFs::Execute)));
    for mount in &spec.mounts {
        files::check(mount)?;
        allowed.push((mount.host.clone(), if mount.writable { all } else { read }));
    }
    Ok(allowed)
}
