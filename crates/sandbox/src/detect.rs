//! Finding the strongest level that works, by trying.

use std::path::PathBuf;

use crate::bwrap::Bwrap;
use crate::cgroup::Cgroups;
use crate::config::{Config, Isolation};
use crate::error::Error;
use crate::launch::Launcher;
use crate::level::{Level, Mechanism};
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

pub(crate) async fn detect(config: &Config, spawner: &Spawner) -> Result<Found, Error> {
    let mut report = Vec::new();
    let bwrap = try_bwrap(config, spawner, &mut report).await;
    let cgroups = try_cgroups(&mut report);
    if let Some(bwrap) = bwrap {
        let level = if cgroups.is_some() {
            Level::Strict
        } else {
            Level::User
        };
        if level == Level::Strict || config.isolation != Isolation::Strict {
            let launcher = Launcher::bwrap(bwrap, cgroups)?;
            return Ok(Found {
                level,
                launcher,
                report,
            });
        }
    }
    Err(unavailable(config.isolation, &report))
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
        Ok(launcher) => attempt(&launcher, spawner).await,
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

/// Runs a program that does nothing, with a door, and says why that failed.
async fn attempt(launcher: &Launcher, spawner: &Spawner) -> Result<(), String> {
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
        network: Network::Doors(vec![5000]),
        stdin: false,
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
