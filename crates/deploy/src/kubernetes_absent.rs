//! What stands in the place of the target `kubernetes` in a build without it: nothing.

use tokio_util::task::TaskTracker;

use crate::Deployments;
use crate::config::Config;
use crate::deployment::{Deployment, Failure, Health, Plan};
use crate::environment::Opened;
use crate::pull::PullLogin;

/// No cluster: there is no value of this type.
#[derive(Clone)]
pub(crate) enum Kubernetes {}

/// Nothing is held.
pub(crate) enum Held {}

/// There is no Secret.
pub(crate) enum PullSecret {}

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
        _: &Opened,
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
        _: &[Opened],
    ) -> Result<String, Failure> {
        match *self {}
    }

    pub(crate) fn keep(&self, _: &Deployments, _: &[Opened], _: &TaskTracker) {
        match *self {}
    }

    pub(crate) async fn clear(&self, _: &Deployment, _: bool) -> Result<(), Failure> {
        match *self {}
    }

    pub(crate) async fn pull_secret(&self, _: &str) -> Result<Option<PullSecret>, Failure> {
        match *self {}
    }

    pub(crate) async fn clear_pull_secret(&self, _: PullSecret) -> Result<(), Failure> {
        match *self {}
    }

    pub(crate) async fn plan(&self, _: &[Opened]) -> Result<Plan, Failure> {
        match *self {}
    }
}
