//! What stands in the place of the target `kubernetes` in a build without it: nothing.

use tokio_util::task::TaskTracker;

use crate::Deployments;
use crate::config::Config;
use crate::deployment::{Deployment, Failure, Health, Plan};
use crate::pull::PullLogin;

/// No cluster: there is no value of this type.
#[derive(Clone)]
pub(crate) enum Kubernetes {}

/// Nothing is held.
pub(crate) enum Held {}

/// Nothing is held.
pub(crate) enum PullHeld {}

impl Kubernetes {
    pub(crate) fn new(_: &Config, _: Option<&PullLogin>) -> Option<Self> {
        None
    }

    pub(crate) fn health(&self, _: &str) -> Option<Health> {
        match *self {}
    }

    pub(crate) async fn roll_out(
        &self,
        _: &Deployments,
        _: &Deployment,
        _: &str,
    ) -> Result<(), Failure> {
        match *self {}
    }

    pub(crate) async fn hold(&self, _: &Deployment) -> Held {
        match *self {}
    }

    pub(crate) async fn reach(
        &self,
        _: &Deployments,
        _: &str,
        _: &[Deployment],
    ) -> Result<String, Failure> {
        match *self {}
    }

    pub(crate) fn keep(&self, _: &Deployments, _: &[Deployment], _: &TaskTracker) {
        match *self {}
    }

    pub(crate) async fn clear(&self, _: &Deployment, _: bool) -> Result<(), Failure> {
        match *self {}
    }

    pub(crate) async fn hold_pull_secrets(&self) -> PullHeld {
        match *self {}
    }

    pub(crate) async fn clear_pull_secret(&self, _: PullHeld, _: &str) -> Result<(), Failure> {
        match *self {}
    }

    pub(crate) async fn plan(&self, _: &[Deployment]) -> Result<Plan, Failure> {
        match *self {}
    }
}
