//! Starting a process at each level.

use std::sync::Arc;

use seccompiler::BpfProgram;

use crate::bwrap::Bwrap;
use crate::cgroup::{Cgroups, Group};
use crate::enforced;
use crate::error::Error;
use crate::hold::Held;
use crate::limits;
use crate::plain::{self, Guard};
use crate::process::Process;
use crate::seccomp::{self, Sockets};
use crate::spawner::Spawner;
use crate::spec::{Network, Spec};
use crate::tree;
use crate::watch::{Holder, Tree, Watched, pid_of};

/// What the processes of one level are started with.
#[derive(Debug)]
pub(crate) struct Launcher {
    how: How,
    cgroups: Option<Cgroups>,
}

#[derive(Debug)]
enum How {
    /// Strict with control groups, user without.
    Bwrap {
        bwrap: Bwrap,
        filters: Filters,
    },
    Landlock(Filters),
    None,
}

/// System call filters, by what the network is.
#[derive(Debug)]
struct Filters {
    private_network: Arc<BpfProgram>,
    host_network: Arc<BpfProgram>,
}

impl Filters {
    fn new(private: Sockets) -> Result<Self, Error> {
        Ok(Self {
            private_network: Arc::new(seccomp::program(private)?),
            host_network: Arc::new(seccomp::program(Sockets::Internet)?),
        })
    }

    fn for_network(&self, network: &Network) -> &Arc<BpfProgram> {
        match network {
            Network::Host => &self.host_network,
            Network::None | Network::Doors(_) => &self.private_network,
        }
    }
}

impl Launcher {
    pub(crate) fn bwrap(bwrap: Bwrap, cgroups: Option<Cgroups>) -> Result<Self, Error> {
        let filters = Filters::new(Sockets::Any)?;
        let how = How::Bwrap { bwrap, filters };
        Ok(Self { how, cgroups })
    }

    pub(crate) fn landlock(cgroups: Option<Cgroups>) -> Result<Self, Error> {
        let how = How::Landlock(Filters::new(Sockets::Tcp)?);
        Ok(Self { how, cgroups })
    }

    pub(crate) fn none(cgroups: Option<Cgroups>) -> Self {
        let how = How::None;
        Self { how, cgroups }
    }

    pub(crate) async fn start(&self, spec: Spec, spawner: &Spawner) -> Result<Process, Error> {
        match &self.how {
            How::Bwrap { bwrap, filters } => {
                let filter = seccomp::bytes(filters.for_network(&spec.network));
                self.start_bwrap(bwrap, &filter, spec, spawner).await
            }
            How::Landlock(filters) => {
                let guard = Guard::Landlock(Arc::clone(filters.for_network(&spec.network)));
                self.start_plain(&guard, &spec, spawner).await
            }
            How::None => self.start_plain(&Guard::None, &spec, spawner).await,
        }
    }

    async fn start_bwrap(
        &self,
        bwrap: &Bwrap,
        filter: &[u8],
        spec: Spec,
        spawner: &Spawner,
    ) -> Result<Process, Error> {
        let enforced = enforced::in_namespaces(self.cgroups.as_ref(), &spec);
        let (command, info, release) = bwrap.command(&spec, filter)?;
        let child = spawner.spawn(command).await?;
        let held = Held::new(child, info, release);
        let (cgroups, spawner) = (self.cgroups.clone(), spawner.clone());
        let settled =
            tokio::task::spawn_blocking(move || held.settle(cgroups.as_ref(), &spec, spawner));
        let released = settled.await.map_err(|_| Error::Closed)??;
        Process::follow(released.child, released.tree, released.doors, enforced)
    }

    async fn start_plain(
        &self,
        guard: &Guard,
        spec: &Spec,
        spawner: &Spawner,
    ) -> Result<Process, Error> {
        let cgroups = self.cgroups.as_ref();
        let group = cgroups.map(|c| c.create(&spec.limits)).transpose()?;
        let entrances = group.as_ref().map(Group::entrances).transpose()?;
        let limits = limits::list(&spec.limits, group.is_some(), tree::of_this_user());
        let (command, ends) = plain::command(spec, guard, limits, entrances.unwrap_or_default())?;
        let child = match spawner.spawn(command).await {
            Ok(child) => child,
            Err(error) => {
                group.inspect(Group::remove_when_empty);
                return Err(error);
            }
        };
        let watched = Watched::over(spec, group.as_ref());
        let holder = Holder::Supervisor(ends);
        let tree = Tree::new(pid_of(&child)?, holder, group, watched, spawner.clone())?;
        let enforced = enforced::without_namespaces(guard, cgroups, spec);
        Process::follow(child, tree, Vec::new(), enforced)
    }
}
