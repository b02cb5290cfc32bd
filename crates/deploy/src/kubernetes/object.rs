//! An object of the Kubernetes API as it should be: its kind, its name, its fields.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

/// Who owns the fields that asgard applies, and the label by which its objects are known.
pub(super) const MANAGER: &str = "asgard";
/// The label that tells whose object one is.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The kinds that asgard makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    Service,
    Ingress,
    NetworkPolicy,
    Secret,
}

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) body: Value,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Secret => "Secret",
        }
    }

    /// Its group, version and plural name.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Deployment => ("apps", "v1", "deployments"),
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "horizontalpodautoscalers"),
            Self::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
            Self::Service => ("", "v1", "services"),
            Self::Ingress => ("networking.k8s.io", "v1", "ingresses"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
            Self::Secret => ("", "v1", "secrets"),
        }
    }

    /// `apps/v1`, or `v1` for the first group.
    pub(super) fn api_version(self) -> String {
        match self.place() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        let (group, version, plural) = self.place();
        let kind = GroupVersionKind::gvk(group, version, self.as_str());
        ApiResource::from_gvk_with_plural(&kind, plural)
    }

    pub(super) fn plural(self) -> &'static str {
        self.place().2
    }
}

/// Whether an object of the cluster was made by asgard.
pub(super) fn is_ours(found: &DynamicObject) -> bool {
    let labels = found.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(MANAGER)
}
