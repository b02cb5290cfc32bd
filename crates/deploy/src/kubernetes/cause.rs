//! Why pods do not become ready, read from what the cluster says of them, with the fix.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// A fault of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
    pub(super) stays: Stays,
    /// The pod whose container wrote what may explain it, and whether it has restarted since.
    pub(super) log: Option<(String, bool)>,
}

/// Whether a fault may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// Nothing will change.
    Certainly,
    /// It passes soon or not at all.
    Probably,
    /// It may pass as long as the rollout may take: a node may be added.
    Perhaps,
}

/// The fault that a rollout suffers from, the gravest first.
pub(super) fn cause(deployment: &Deployment, pods: &[Pod]) -> Option<Cause> {
    let containers = pods.iter().filter_map(of_containers);
    let scheduling = pods.iter().filter_map(of_scheduling);
    let weight = |cause: &Cause| match cause.stays {
        Stays::Certainly => 0,
        Stays::Probably => 1,
        Stays::Perhaps => 2,
    };
    containers
        .chain(of_quota(deployment))
        .chain(scheduling)
        .min_by_key(weight)
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn of_containers(pod: &Pod) -> Option<Cause> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| of_container(pod, status))
}

fn of_container(pod: &Pod, container: &ContainerStatus) -> Option<Cause> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let said = waiting.message.clone().unwrap_or_default();
    let image = &container.image;
    let pod_name = name(pod);
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => Some(Cause {
            code: "image_pull",
            message: format!("the image {image} cannot be pulled: {said}"),
            help: "check that the image is in the registry, that the nodes reach it, and that deploy.kubernetes.pull_secret names a secret with its credentials in the namespace".to_owned(),
            stays: Stays::Probably,
            log: None,
        }),
        "InvalidImageName" => Some(Cause {
            code: "image_name",
            message: format!("{image:?} is no name of an image: {said}"),
            help: "name it as REGISTRY/NAME@sha256:DIGEST".to_owned(),
            stays: Stays::Certainly,
            log: None,
        }),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Cause {
            code: "container_config",
            message: format!("the container of the pod {pod_name} cannot be made: {said}"),
            help: "an image that runs as root is refused: give it a numeric user that is not 0; a secret or config map that the pod names must be there".to_owned(),
            stays: Stays::Probably,
            log: None,
        }),
        "CrashLoopBackOff" => Some(crash(pod_name, container)),
        _ => None,
    }
}

fn crash(pod: String, container: &ContainerStatus) -> Cause {
    let ended = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let reason = ended
        .and_then(|ended| ended.reason.as_deref())
        .unwrap_or("Error");
    let exit = ended.map(|ended| ended.exit_code).unwrap_or_default();
    let times = container.restart_count;
    let (code, message, help) = if reason == "OOMKilled" {
        (
            "oom",
            format!(
                "the model server of the pod {pod} took more memory than it may, {times} times"
            ),
            "ask for more: \"resources\": {\"memory\": \"2Gi\"}, or raise deploy.kubernetes.memory_limit_bytes",
        )
    } else {
        (
            "crash_loop",
            format!(
                "the model server of the pod {pod} ended with exit code {exit} ({reason}), {times} times"
            ),
            "its last lines are in the details; the same image can be run by hand: podman run IMAGE",
        )
    };
    Cause {
        code,
        message,
        help: help.to_owned(),
        stays: Stays::Certainly,
        log: Some((pod, true)),
    }
}

fn of_scheduling(pod: &Pod) -> Option<Cause> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let unschedulable = conditions.find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let said = unschedulable.message.clone().unwrap_or_default();
    Some(Cause {
        code: "unschedulable",
        message: format!("no node takes the pod {}: {said}", name(pod)),
        help: "ask for less memory or fewer cpus in \"resources\", deploy fewer replicas, or add a node".to_owned(),
        stays: Stays::Perhaps,
        log: None,
    })
}

/// Pods that may not even be made: a quota, or a policy of the cluster.
fn of_quota(deployment: &Deployment) -> Option<Cause> {
    let mut conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    let refused = conditions.find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    let said = refused.message.clone().unwrap_or_default();
    let (code, help) = if said.contains("exceeded quota") {
        (
            "quota",
            "ask for less, remove other deployments, or raise the quota: kubectl describe quota",
        )
    } else {
        (
            "pods_refused",
            "a policy of the cluster refuses such pods; its message says which",
        )
    };
    Some(Cause {
        code,
        message: format!("the cluster does not make the pods: {said}"),
        help: help.to_owned(),
        stays: Stays::Probably,
        log: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(deployment: Value, pods: Value) -> Option<Cause> {
        let deployment = json!({ "status": deployment });
        cause(
            &serde_json::from_value(deployment).unwrap(),
            &serde_json::from_value::<Vec<Pod>>(pods).unwrap(),
        )
    }

    fn waiting(reason: &str, last: Value) -> Value {
        json!([{ "metadata": { "name": "p" }, "status": { "containerStatuses": [{
            "name": "model", "image": "r/m@sha256:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "waiting": { "reason": reason, "message": "said" } }, "lastState": last }] } }])
    }

    #[test]
    fn each_fault_is_named_with_its_fix() {
        for (reason, last, code) in [
            ("ImagePullBackOff", json!({}), "image_pull"),
            ("InvalidImageName", json!({}), "image_name"),
            ("CreateContainerConfigError", json!({}), "container_config"),
            (
                "CrashLoopBackOff",
                json!({ "terminated": { "exitCode": 1 } }),
                "crash_loop",
            ),
            (
                "CrashLoopBackOff",
                json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }),
                "oom",
            ),
        ] {
            let cause = found(json!({}), waiting(reason, last)).unwrap();
            assert_eq!(cause.code, code);
            assert!(!cause.help.is_empty());
        }
        assert_eq!(
            found(json!({}), waiting("ContainerCreating", json!({}))),
            None
        );
        let pending = json!([{ "metadata": { "name": "p" }, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes" }] } }]);
        let cause = found(json!({}), pending).unwrap();
        assert_eq!((cause.code, cause.stays), ("unschedulable", Stays::Perhaps));
        let quota = json!({ "conditions": [{ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q" }] });
        assert_eq!(found(quota, json!([])).unwrap().code, "quota");
    }

    #[test]
    fn what_stays_is_told_before_what_may_pass() {
        let mut pods = waiting("CrashLoopBackOff", json!({}))
            .as_array()
            .unwrap()
            .clone();
        pods.extend(
            waiting("ImagePullBackOff", json!({}))
                .as_array()
                .unwrap()
                .clone(),
        );
        pods.reverse();
        assert_eq!(found(json!({}), json!(pods)).unwrap().code, "crash_loop");
    }
}
