//! Whether a Deployment of the cluster has rolled out, by conditions of our own: a status that is
//! older than the object says nothing (kube's ready-made condition would take it).

use k8s_openapi::api::apps::v1::Deployment;

/// Where a rollout stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rollout {
    /// Every pod is of the newest kind and available, and no other is left.
    Done,
    /// What is waited for.
    Waits(String),
    /// The cluster's own time limit has passed.
    Late,
}

/// Looks at a Deployment.
pub(super) fn rollout(deployment: &Deployment) -> Rollout {
    let status = deployment.status.clone().unwrap_or_default();
    let generation = deployment.metadata.generation.unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Rollout::Waits("the cluster has not seen it yet".to_owned());
    }
    let conditions = status.conditions.iter().flatten();
    let late = conditions.clone().any(|condition| {
        condition.type_ == "Progressing"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if late {
        return Rollout::Late;
    }
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let count = |number: Option<i32>| number.unwrap_or_default();
    let (updated, available, all) = (
        count(status.updated_replicas),
        count(status.available_replicas),
        count(status.replicas),
    );
    if updated < wanted {
        return Rollout::Waits(format!("{updated} of {wanted} pods are made"));
    }
    if all > updated {
        return Rollout::Waits(format!("{} old pods end", all - updated));
    }
    if available < wanted {
        return Rollout::Waits(format!("{available} of {wanted} pods are ready"));
    }
    Rollout::Done
}

/// How many pods are ready.
pub(super) fn ready(deployment: &Deployment) -> usize {
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas);
    usize::try_from(ready.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stands(status: Value) -> Rollout {
        let deployment = json!({
            "metadata": { "generation": 3 },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": status,
        });
        rollout(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn a_status_older_than_the_object_says_nothing() {
        let old = json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }] });
        assert!(matches!(stands(old), Rollout::Waits(_)));
        assert!(matches!(stands(json!({})), Rollout::Waits(_)));
    }

    #[test]
    fn every_pod_must_be_new_and_available() {
        let status = |updated, available, all| json!({ "observedGeneration": 3, "replicas": all, "updatedReplicas": updated, "availableReplicas": available });
        assert!(matches!(stands(status(1, 2, 3)), Rollout::Waits(_)));
        assert!(matches!(stands(status(2, 2, 3)), Rollout::Waits(_)));
        assert!(matches!(stands(status(2, 1, 2)), Rollout::Waits(_)));
        assert_eq!(stands(status(2, 2, 2)), Rollout::Done);
    }

    #[test]
    fn the_clusters_time_limit_ends_it() {
        let late = json!({ "observedGeneration": 3, "conditions": [
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }] });
        assert_eq!(stands(late), Rollout::Late);
    }
}
