//! What the API server refuses, as failures with their cause and fix.

use kube::Error;

use super::object::Kind;
use crate::deployment::{Failure, Fault};

const TITLE: &str = "The cluster refused";

fn failure(code: &str, message: String, help: String) -> Failure {
    Failure::new(Fault::Outside, code, TITLE, message, Some(help))
}

const FORBIDDEN: &str = "cluster_forbidden";

/// Whether asgard's role does not allow what was tried.
pub(super) fn is_forbidden(failure: &Failure) -> bool {
    failure.problem.code == FORBIDDEN
}

/// The settings lead to no cluster.
pub(super) fn no_cluster(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        Fault::Server,
        "no_cluster",
        "No cluster",
        format!("the settings of the cluster cannot be used: {}", chain(error)),
        Some("check deploy.kubernetes.kubeconfig and context, or in_cluster; 'kubectl --kubeconfig FILE get pods' must work with the same file".to_owned()),
    )
}

/// There is an object of that name that asgard did not make.
pub(super) fn not_ours(kind: Kind, namespace: &str, name: &str) -> Failure {
    failure(
        "name_taken",
        format!(
            "the {} {namespace}/{name} is there already, and asgard did not make it",
            kind.as_str()
        ),
        format!(
            "remove it (kubectl -n {namespace} delete {} {name}), or deploy into another namespace",
            kind.plural()
        ),
    )
}

/// An answer of the API server that stays.
pub(super) fn refused(
    verb: &str,
    kind: Kind,
    namespace: &str,
    name: &str,
    error: &Error,
) -> Failure {
    let what = format!("cannot {verb} the {} {namespace}/{name}", kind.as_str());
    let Error::Api(status) = error else {
        return failure(
            "cluster_unreachable",
            format!("{what}: the API server does not answer: {}", chain(error)),
            "check that this server reaches the address in the kubeconfig, then deploy again"
                .to_owned(),
        );
    };
    let said = &status.message;
    let message = format!("{what}: {said}");
    match status.code {
        401 => failure(
            "cluster_credentials",
            message,
            "the credentials are not valid (any more): renew those in the kubeconfig, or the service account".to_owned(),
        ),
        403 if said.contains("exceeded quota") => failure(
            "quota",
            message,
            format!("ask for less, remove other deployments, or raise the quota: kubectl -n {namespace} describe quota"),
        ),
        403 if said.contains("being terminated") => failure(
            "namespace_ends",
            message,
            "the namespace is being deleted: wait until it is gone and make it anew, or use another".to_owned(),
        ),
        403 => failure(
            FORBIDDEN,
            message,
            format!("the Role and RoleBinding in deploy/kubernetes/base/rbac.yaml hold all that asgard needs; apply them to the namespace {namespace}"),
        ),
        404 => failure(
            "no_namespace",
            message,
            format!("make the namespace: kubectl create namespace {namespace}, and give asgard its role there (deploy/kubernetes/base/rbac.yaml)"),
        ),
        409 => failure(
            "cluster_conflict",
            message,
            format!("somebody else changes it: kubectl -n {namespace} get {} {name} -o yaml --show-managed-fields tells who; deploy again when that has ended", kind.plural()),
        ),
        400 | 422 => failure(
            "cluster_invalid",
            message,
            "the cluster does not take such an object: check deploy.kubernetes.* and the request; an admission policy of the cluster may also have refused it".to_owned(),
        ),
        _ => failure(
            "cluster_error",
            message,
            "the API server is not well: kubectl get --raw /readyz; deploy again when it is".to_owned(),
        ),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
