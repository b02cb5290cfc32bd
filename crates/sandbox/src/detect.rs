//! Finding the strongest level that works, by trying.

use std::path::PathBuf;

use crate::bwrap::Bwrap;
use crate::cgroup::Cgroups;
use crate::config::{Config, Isolation};
use crate::error::Error;
use crate::launch::Launcher;
use crate::level::{Level, Mechanism};
use crate::orphan;
use crate::spawner::Spawner;
use crate::spec::{Limits, Network, Spec};

const INSTALL_BWRAP: &str =
    "install bubblewrap (apt-get install bubblewrap), or set sandbox.bwrap to its path";

/// A level that works, how to start processes at it, and all that was tried.
pub(crate) struct Found {
    pub(crate) level: Level,
    pub(crate) launcher: Launcher,
    pub(crate) report: Vec<Mechanism>,
}

/// Tries the levels that the configuration accepts, or `only` one, strongest first.
pub(crate) async fn detect(
    config: &Config,
    only: Option<Level>,
    spawner: &Spawner,
) -> Result<Found, Error> {
    let wants = |level| match only {
        Some(only) => only == level,
        None => accepts(config.isolation, level),
    };
    orphan::clear();
    let mut report = Vec::new();
    let cgroups = try_cgroups(&mut report);
    if wants(Level::Strict) || wants(Level::User) {
        let bwrap = try_bwrap(config, spawner, &mut report).await;
        if let Some(bwrap) = bwrap {
            if let Some(cgroups) = cgroups.clone().filter(|_| wants(Level::Strict)) {
                let launcher = Launcher::bwrap(bwrap, Some(cgroups))?;
                return Ok(Found::new(Level::Strict, launcher, report));
            }
            if wants(Level::User) {
                let launcher = Launcher::bwrap(bwrap, None)?;
                return Ok(Found::new(Level::User, launcher, report));
            }
        }
    }
    if wants(Level::Landlock)
        && let Some(launcher) = try_landlock(cgroups.clone(), spawner, &mut report).await
    {
        return Ok(Found::new(Level::Landlock, launcher, report));
    }
    if wants(Level::None) {
        let launcher = Launcher::none(cgroups);
        return Ok(Found::new(Level::None, launcher, report));
    }
    Err(unavailable(config.isolation, &report))
}

/// Best effort never means none: that is asked for by name.
fn accepts(isolation: Isolation, level: Level) -> bool {
    match isolation {
        Isolation::Strict => level == Level::Strict,
        Isolation::BestEffort => level != Level::None,
        Isolation::None => level == Level::None,
    }
}

impl Found {
    fn new(level: Level, launcher: Launcher, report: Vec<Mechanism>) -> Self {
        Self {
            level,
            launcher,
            report,
        }
    }
}

async fn try_landlock(
    cgroups: Option<Cgroups>,
    spawner: &Spawner,
    report: &mut Vec<Mechanism>,
) -> Option<Launcher> {
    const NAME: &str = "Landlock";
    let tried = match Launcher::landlock(cgroups) {
        Ok(launcher) => attempt(&launcher, Network::None, spawner)
            .await
            .map(|()| launcher),
        Err(error) => Err(error.to_string()),
    };
    match tried {
        Ok(launcher) => {
            report.push(Mechanism::available(
                NAME,
                if crate::landlock::keeps_signals() {
                    "files, TCP ports and signals"
                } else {
                    "files and TCP ports; signals only from Linux 6.12 on"
                },
            ));
            Some(launcher)
        }
        Err(reason) => {
            report.push(Mechanism::missing(
                NAME,
                reason,
                "use Linux 6.7 or newer with landlock among its security modules (the lsm= boot parameter)",
            ));
            None
        }
    }
}

async fn try_bwrap(
    config: &Config,
    spawner: &Spawner,
    report: &mut Vec<Mechanism>,
) -> Option<Bwrap> {
    const NAME: &str = "bubblewrap";
    let bwrap = match Bwrap::find(config.bwrap.as_deref()) {
        Ok(bwrap) => bwrap,
        Err(reason) => {
            report.push(Mechanism::missing(NAME, reason, INSTALL_BWRAP));
            return None;
        }
    };
    let tried = match Launcher::bwrap(bwrap.clone(), None) {
        Ok(launcher) => attempt(&launcher, Network::Doors(vec![5000]), spawner).await,
        Err(error) => Err(error.to_string()),
    };
    match tried {
        Ok(()) => {
            report.push(Mechanism::available(
                NAME,
                bwrap.program().display().to_string(),
            ));
            Some(bwrap)
        }
        Err(reason) => {
            report.push(Mechanism::missing(NAME, reason, namespace_fix()));
            None
        }
    }
}

fn try_cgroups(report: &mut Vec<Mechanism>) -> Option<Cgroups> {
    const NAME: &str = "control groups";
    match Cgroups::detect() {
        Ok(cgroups) => {
            report.push(Mechanism::available(NAME, cgroups.describe()));
            Some(cgroups)
        }
        Err(reason) => {
            report.push(Mechanism::missing(
                NAME,
                reason,
                "run asgard as a systemd service with Delegate=yes, or as root with a writable /sys/fs/cgroup",
            ));
            None
        }
    }
}

/// Runs a program that does nothing, and says why that failed.
async fn attempt(launcher: &Launcher, network: Network, spawner: &Spawner) -> Result<(), String> {
    let spec = Spec {
        program: PathBuf::from("/usr/bin/true"),
        args: Vec::new(),
        env: Vec::new(),
        work_dir: PathBuf::from("/tmp"),
        mounts: Vec::new(),
        limits: Limits {
            tmp_bytes: Some(1 << 20),
            ..Limits::default()
        },
        network,
        stdin: false,
        listener: None,
    };
    let told = |error: Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let mut process = launcher.start(spec, spawner).await.map_err(told)?;
    let stderr = process.take_stderr();
    let exit = process.wait().await.map_err(told)?;
    if exit.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = stderr {
        use tokio::io::AsyncReadExt as _;
        // Reading may fail on bytes that are not text; the exit says enough then.
        drop(stderr.read_to_string(&mut said).await);
    }
    Err(match said.trim() {
        "" => format!("a program that does nothing ended with {exit:?}"),
        said => said.to_owned(),
    })
}

/// What usually forbids namespaces.
fn namespace_fix() -> String {
    let on = |path: &str, value: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    if on(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "AppArmor forbids user namespaces here: install the distribution's bwrap profile, or set sysctl kernel.apparmor_restrict_unprivileged_userns=0".to_owned()
    } else if on("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "user namespaces are off: set sysctl kernel.unprivileged_userns_clone=1".to_owned()
    } else if on("/proc/sys/user/max_user_namespaces", "0") {
        "user namespaces are off: set sysctl user.max_user_namespaces above 0".to_owned()
    } else {
        "allow user namespaces; in a container, run it with a security profile that allows unshare, mount and setns".to_owned()
    }
}

fn unavailable(wanted: Isolation, report: &[Mechanism]) -> Error {
    let missing: Vec<&Mechanism> = report.iter().filter(|m| !m.available).collect();
    let tried: Vec<String> = missing
        .iter()
        .map(|m| format!("{}: {}", m.name, m.detail))
        .collect();
    let mut fixes: Vec<&str> = missing.iter().filter_map(|m| m.fix.as_deref()).collect();
    if wanted == Isolation::BestEffort {
        fixes.push("or, for one trusted user only, set sandbox.isolation = \"none\"");
    }
    Error::Unavailable {
        wanted: wanted.name(),
        tried: tried.join("; "),
        fix: fixes.join("; "),
    }
}
