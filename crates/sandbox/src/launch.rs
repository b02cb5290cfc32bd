//! Starting a process at each level.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::bwrap::{Bwrap, Launched};
use crate::cgroup::Cgroups;
use crate::doors;
use crate::error::Error;
use crate::level::Level;
use crate::limits;
use crate::process::{Enforced, Process};
use crate::seccomp;
use crate::spawner::Spawner;
use crate::spec::{Network, Spec};
use crate::watch::Tree;

/// What the processes of one level are started with.
#[derive(Debug)]
pub(crate) enum Launcher {
    /// Strict with control groups, user without.
    Bwrap {
        bwrap: Bwrap,
        cgroups: Option<Cgroups>,
        filter: Vec<u8>,
    },
}

impl Launcher {
    pub(crate) fn bwrap(bwrap: Bwrap, cgroups: Option<Cgroups>) -> Result<Self, Error> {
        Ok(Self::Bwrap {
            bwrap,
            cgroups,
            filter: seccomp::bytes(&seccomp::program()?),
        })
    }

    pub(crate) async fn start(&self, spec: Spec, spawner: &Spawner) -> Result<Process, Error> {
        match self {
            Self::Bwrap {
                bwrap,
                cgroups,
                filter,
            } => start_bwrap(bwrap, cgroups.clone(), filter, spec, spawner).await,
        }
    }
}

async fn start_bwrap(
    bwrap: &Bwrap,
    cgroups: Option<Cgroups>,
    filter: &[u8],
    spec: Spec,
    spawner: &Spawner,
) -> Result<Process, Error> {
    let (command, info, release) = bwrap.command(&spec, filter)?;
    let child = spawner.spawn(command).await?;
    let launched = Launched::new(child, info, release);
    let spawner = spawner.clone();
    let settled =
        tokio::task::spawn_blocking(move || settle(launched, cgroups.as_ref(), &spec, spawner));
    let (child, tree, doors, enforced) = settled.await.map_err(|_| Error::Closed)??;
    Process::follow(child, tree, doors, enforced)
}

type Settled = (Child, Tree, Vec<(u16, std::net::TcpListener)>, Enforced);

/// Bounds the first process inside while bwrap holds it, binds the doors, lets it go.
fn settle(
    mut launched: Launched,
    cgroups: Option<&Cgroups>,
    spec: &Spec,
    spawner: Spawner,
) -> Result<Settled, Error> {
    let child = pid_of(&launched.child)?;
    let first = match launched.first_process() {
        Ok(first) => first,
        Err(error) => {
            // bwrap gave up and is ending; nothing ran.
            drop(launched.child.kill());
            drop(launched.child.wait());
            return Err(error);
        }
    };
    let bounded = bound(child, first, cgroups, spec, spawner);
    match bounded {
        Ok((tree, doors)) => {
            let enforced = enforced(cgroups, spec);
            Ok((launched.release()?, tree, doors, enforced))
        }
        Err(error) => {
            // Its parent-death signal takes the held process with it.
            drop(launched.child.kill());
            let _ = kill_process(first, Signal::KILL);
            drop(launched.child.wait());
            Err(error)
        }
    }
}

fn bound(
    child: Pid,
    first: Pid,
    cgroups: Option<&Cgroups>,
    spec: &Spec,
    spawner: Spawner,
) -> Result<(Tree, Vec<(u16, std::net::TcpListener)>), Error> {
    let group = cgroups.map(|c| c.create(&spec.limits)).transpose()?;
    let has_group = group.is_some();
    if let Some(group) = &group
        && let Err(error) = group.add(first)
    {
        group.remove();
        return Err(error);
    }
    let watched = spec.limits.memory_bytes.filter(|_| !has_group);
    let tree = Tree::new(child, Some(first), group, watched, spawner)?;
    limits::apply_to(first, &limits::list(&spec.limits, has_group))?;
    let doors = match (&spec.network, tree.first_fd()) {
        (Network::Doors(ports), Some(fd)) => {
            use std::os::fd::AsFd as _;
            doors::bind_inside(fd.as_fd(), ports)?
        }
        _ => Vec::new(),
    };
    Ok((tree, doors))
}

fn pid_of(child: &Child) -> Result<Pid, Error> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Error::Closed)
}

fn enforced(cgroups: Option<&Cgroups>, spec: &Spec) -> Enforced {
    let mut mechanisms: Vec<String> = [
        "user namespace",
        "private files",
        "private processes",
        "system call filter",
        "no capabilities",
        "resource limits",
        "dies with the server",
    ]
    .map(str::to_owned)
    .into();
    let mut warnings = Vec::new();
    match &spec.network {
        Network::Host => warnings.push("the network of the host is reachable".to_owned()),
        Network::None => mechanisms.push("no network".to_owned()),
        Network::Doors(_) => mechanisms.push("no network but its own doors".to_owned()),
    }
    let level = match cgroups {
        Some(cgroups) => {
            mechanisms.push(format!("control groups, {}", cgroups.describe()));
            Level::Strict
        }
        None => {
            if spec.limits.memory_bytes.is_some() {
                warnings.push(
                    "the memory limit is sampled, not bounded by the kernel: no control group can be made here"
                        .to_owned(),
                );
            }
            if spec.limits.cpus.is_some() {
                warnings.push(
                    "the processor limit is not enforced: no control group can be made here"
                        .to_owned(),
                );
            }
            Level::User
        }
    };
    Enforced {
        level,
        mechanisms,
        warnings,
    }
}
