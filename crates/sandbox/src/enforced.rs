//! Saying what holds a process in, and what does not.

use crate::cgroup::Cgroups;
use crate::level::Level;
use crate::plain::Guard;
use crate::process::Enforced;
use crate::spec::{Network, Spec};

pub(crate) fn in_namespaces(cgroups: Option<&Cgroups>, spec: &Spec) -> Enforced {
    let mut enforced = Enforced {
        level: if cgroups.is_some() {
            Level::Strict
        } else {
            Level::User
        },
        mechanisms: Vec::new(),
        warnings: Vec::new(),
    };
    for mechanism in [
        "user namespace without capabilities",
        "private files",
        "private processes",
        "system call filter",
    ] {
        enforced.has(mechanism);
    }
    match &spec.network {
        Network::Host => enforced.warn("the network of the host is reachable"),
        Network::None => enforced.has("no network"),
        Network::Doors(_) => enforced.has("no network but its own doors"),
    }
    enforced.bounds(cgroups, spec);
    enforced
}

pub(crate) fn without_namespaces(
    guard: &Guard,
    cgroups: Option<&Cgroups>,
    spec: &Spec,
) -> Enforced {
    let mut enforced = Enforced {
        level: Level::None,
        mechanisms: Vec::new(),
        warnings: Vec::new(),
    };
    match guard {
        Guard::Landlock(_) => {
            enforced.level = Level::Landlock;
            enforced.has("Landlock on files");
            enforced.has("system call filter");
            enforced.warn("other processes of this machine are visible");
            enforced.warn("shared memory files (/dev/shm) of other processes of this user can be read and changed");
            if crate::landlock::keeps_signals() {
                enforced.has("Landlock on signals");
            } else {
                enforced.warn("other processes of this user can be signalled: this kernel is older than Linux 6.12");
            }
            if spec.limits.tmp_bytes.is_some() {
                enforced.warn("the size of what it writes to its folders is not limited");
            }
            match &spec.network {
                Network::Host => enforced.warn("the network of the host is reachable"),
                Network::None => enforced.has("Landlock: no network"),
                Network::Doors(_) => {
                    enforced.has("Landlock: TCP to the given ports only");
                    enforced.warn("the given ports are reachable on every host");
                }
            }
        }
        Guard::None => enforced.warn(
            "no isolation: the process can do all that the server's user can (sandbox.isolation = none)",
        ),
    }
    enforced.bounds(cgroups, spec);
    enforced
}

impl Enforced {
    fn has(&mut self, mechanism: &str) {
        self.mechanisms.push(mechanism.to_owned());
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    fn bounds(&mut self, cgroups: Option<&Cgroups>, spec: &Spec) {
        self.has("resource limits");
        self.has("dies with the server");
        match cgroups {
            Some(cgroups) => {
                self.mechanisms
                    .push(format!("control groups, {}", cgroups.describe()));
            }
            None => {
                if spec.limits.memory_bytes.is_some() {
                    self.warn(
                        "the memory limit is sampled ten times a second, not held by the kernel: no control group can be made here",
                    );
                }
                if spec.limits.cpus.is_some() {
                    self.warn(
                        "the processor limit is not enforced: no control group can be made here",
                    );
                }
            }
        }
    }
}
