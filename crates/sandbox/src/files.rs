//! What a process with private files sees of the machine.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::Pid;

use crate::error::Error;
use crate::spec::{Mount, Network, Spec};

/// Top folders that are part of the system or links into `/usr`.
const SYSTEM: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Files of `/etc` that programs need and that tell nothing about the host.
const SHARED: [&str; 9] = [
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
];

/// Files of `/etc` for processes that share the host's network.
const NETWORK: [&str; 5] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
];

/// System paths of this machine that every process may read.
pub(crate) fn shared(network: &Network) -> impl Iterator<Item = &'static str> {
    let network: &[&str] = match network {
        Network::Host => &NETWORK,
        Network::None | Network::Doors(_) => &["/etc/hosts", "/etc/nsswitch.conf"],
    };
    ["/usr"]
        .into_iter()
        .chain(SYSTEM)
        .chain(SHARED)
        .chain(network.iter().copied())
        .filter(|path| Path::new(path).exists())
}

/// Small files that are made for each sandbox.
pub(crate) fn made(network: &Network) -> Vec<(&'static str, &'static str)> {
    let mut files = vec![
        (
            "/etc/passwd",
            "root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:65534:65534:user:/tmp:/bin/sh\n",
        ),
        ("/etc/group", "root:x:0:\nuser:x:65534:\n"),
    ];
    if *network != Network::Host {
        files.push(("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"));
        files.push((
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        ));
    }
    files
}

/// The bwrap arguments that build the file system of `spec`.
pub(crate) fn arguments(spec: &Spec) -> Result<Vec<OsString>, Error> {
    let mut list = Arguments(Vec::new());
    list.read_only("/usr", "/usr");
    for folder in SYSTEM {
        match fs::symlink_metadata(folder) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(folder)
                    .map_err(|e| Error::start(format!("read the link {folder}"), e))?;
                list.push(["--symlink".into(), target.into(), folder.into()]);
            }
            Ok(_) => list.read_only(folder, folder),
            Err(_) => {}
        }
    }
    let shared = SHARED.iter().filter(|path| Path::new(path).exists());
    for path in shared {
        list.read_only(path, path);
    }
    if spec.network == Network::Host {
        for path in NETWORK {
            // Links here often lead out of /etc; bind what they lead to.
            if let Ok(target) = fs::canonicalize(path) {
                list.push(["--ro-bind".into(), target.into(), path.into()]);
            }
        }
    }
    list.push(["--proc".into(), "/proc".into()]);
    // The kernel lets the host's root write /proc/sys whatever its capabilities are, and with a
    // server that runs as root that is who a sandboxed process is to the kernel.
    list.push(["--remount-ro".into(), "/proc".into()]);
    list.push(["--dev".into(), "/dev".into()]);
    let size = spec.limits.tmp_bytes.or(spec.limits.memory_bytes);
    list.memory_folder(Path::new("/dev/shm"), size);
    list.push(["--remount-ro".into(), "/dev".into()]);
    list.memory_folder(Path::new("/tmp"), size);

    let mut places: Vec<Place<'_>> = spec.mounts.iter().map(Place::Mount).collect();
    if has_work_dir_in_memory(spec) {
        places.push(Place::Memory(&spec.work_dir));
    }
    // Outer folders first, or they would hide the inner ones.
    places.sort_by_key(|place| place.inside().components().count());
    for place in places {
        match place {
            Place::Memory(path) => list.memory_folder(path, size),
            Place::Mount(mount) => {
                check(mount)?;
                let option = if mount.writable {
                    "--bind"
                } else {
                    "--ro-bind"
                };
                list.push([option.into(), path(&mount.host), path(&mount.inside)]);
            }
        }
    }
    list.push(["--remount-ro".into(), "/".into()]);
    Ok(list.0)
}

/// Whether the work folder is one in memory of its own.
fn has_work_dir_in_memory(spec: &Spec) -> bool {
    let is_mounted = spec
        .mounts
        .iter()
        .any(|mount| spec.work_dir.starts_with(&mount.inside));
    !is_mounted && spec.work_dir != Path::new("/tmp")
}

/// The folders whose files take memory.
pub(crate) fn memory_folders(spec: &Spec) -> Vec<PathBuf> {
    let own = has_work_dir_in_memory(spec).then(|| spec.work_dir.clone());
    ["/tmp", "/dev/shm"]
        .map(PathBuf::from)
        .into_iter()
        .chain(own)
        .collect()
}

/// How much memory the files of these folders take, as a process inside sees them.
pub(crate) fn in_memory(inside: Pid, folders: &[PathBuf]) -> u64 {
    let root = format!("/proc/{}/root", inside.as_raw_pid());
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let taken = |folder: &PathBuf| {
        let seen = PathBuf::from(format!("{root}{}", folder.display()));
        // Not there yet: while bwrap is still at work its root is the host's.
        if device(&seen) == device(folder) {
            return None;
        }
        // While the process is ending its root is gone, and with it the files.
        let held = statvfs(&seen).ok()?;
        Some((held.f_blocks - held.f_bfree) * held.f_frsize)
    };
    folders.iter().filter_map(taken).sum()
}

enum Place<'s> {
    Mount(&'s Mount),
    Memory(&'s PathBuf),
}

impl Place<'_> {
    fn inside(&self) -> &Path {
        match self {
            Self::Mount(mount) => &mount.inside,
            Self::Memory(path) => path,
        }
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn push<const N: usize>(&mut self, arguments: [OsString; N]) {
        self.0.extend(arguments);
    }

    fn read_only(&mut self, host: &str, inside: &str) {
        self.push(["--ro-bind".into(), host.into(), inside.into()]);
    }

    /// A folder in memory, of at most `size` bytes.
    fn memory_folder(&mut self, inside: &Path, size: Option<u64>) {
        self.push(["--perms".into(), "1777".into()]);
        if let Some(size) = size {
            self.push(["--size".into(), size.to_string().into()]);
        }
        self.push(["--tmpfs".into(), path(inside)]);
    }
}

fn path(path: &Path) -> OsString {
    path.as_os_str().to_owned()
}

/// Refuses a mount that bwrap would refuse only after the start.
pub(crate) fn check(mount: &Mount) -> Result<(), Error> {
    let refuse = |path: &Path, reason: String| Error::Path {
        path: path.to_owned(),
        reason,
    };
    if !mount.inside.is_absolute() || mount.inside == Path::new("/") {
        return Err(refuse(
            &mount.inside,
            "a place inside is an absolute path below /".to_owned(),
        ));
    }
    fs::metadata(&mount.host)
        .map(|_| ())
        .map_err(|e| refuse(&mount.host, e.to_string()))
}
