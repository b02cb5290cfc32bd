//! Control groups: bounds, usage and death of a whole process tree, by the kernel.
//!
//! Three layouts are met: version 2, version 1, and both side by side ("hybrid": the controllers
//! under version 1, and a version 2 tree that still can kill). Groups are made in a folder
//! `asgard`, each named by the server's process id, so that a later server can clear what a killed
//! one left.

mod group;
mod place;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use group::Group;
use place::Places;

use crate::error::Error;
use crate::spec::Limits;

/// Where this machine lets us make groups.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    places: Arc<Places>,
    /// Tells the groups of several sandboxes of one process apart.
    series: u64,
    next: Arc<AtomicU64>,
}

impl Cgroups {
    /// Finds writable hierarchies and tries a group in them; the error says which part failed.
    pub(crate) fn detect() -> Result<Self, String> {
        let places = Places::find()?;
        places.clear_of_dead_servers();
        let cgroups = Self {
            places: Arc::new(places),
            series: RandomState::new().hash_one(std::process::id()),
            next: Arc::new(AtomicU64::new(0)),
        };
        let trial = cgroups
            .create(&Limits {
                memory_bytes: Some(64 << 20),
                cpus: Some(1.0),
                processes: Some(16),
                ..Limits::default()
            })
            .map_err(|e| match std::error::Error::source(&e) {
                Some(source) => format!("{e}: {source}"),
                None => e.to_string(),
            })?;
        trial.remove();
        Ok(cgroups)
    }

    /// The layout in words.
    pub(crate) fn describe(&self) -> &'static str {
        self.places.describe()
    }

    /// Makes a group with these limits.
    pub(crate) fn create(&self, limits: &Limits) -> Result<Group, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{:016x}-{number}", std::process::id(), self.series);
        Group::create(&self.places, &name, limits)
    }
}
