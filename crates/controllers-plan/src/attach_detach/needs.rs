//! Which pods need volumes, and by which claims.

use api::k8s::api::core::v1::{Node, Pod};

use crate::claims::ObservedPod;
use crate::is_terminating;
use crate::pods::has_ended;

/// On a node: pods that have ended keep their volumes.
const KEEPS_ENDED: &str = "volumes.kubernetes.io/keep-terminated-pod-volumes";

/// Whether a pod needs its volumes on its node: it has not ended, nor is it being deleted with nothing left that runs.
pub fn needs_volumes(pod: &Pod, node: Option<&Node>) -> bool {
    let annotations = node.and_then(|node| node.metadata.annotations.as_ref());
    let keeps = annotations.and_then(|all| all.get(KEEPS_ENDED));
    let is_over = has_ended(pod) || (is_terminating(&pod.metadata) && !runs(pod));
    !is_over || keeps.map(String::as_str) == Some("true")
}

/// Whether any of its containers does anything, or is about to.
fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let is_still =
        |state: &api::k8s::api::core::v1::ContainerState| state.terminated.is_some() || state.waiting.is_some();
    statuses
        .into_iter()
        .any(|status| !status.state.as_ref().is_some_and(is_still))
}

/// The claims of a pod: those that it names, and those that are made for it.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    let named = named.map(|source| source.claim_name.clone());
    named.chain(ObservedPod::claim_names(pod)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn pods_need_volumes_as_long_as_anything_runs() {
        let check = |deleted: bool, phase: &str, states: Value, keeps: bool| {
            let statuses: Vec<Value> = states
                .as_array()
                .unwrap()
                .iter()
                .map(|state| {
                    json!({"name": "c", "state": state,
                "image": "i", "imageID": "", "ready": false, "restartCount": 0})
                })
                .collect();
            let pod = json!({
                "metadata": {"deletionTimestamp": deleted.then_some("2026-11-23T00:00:00Z")},
                "spec": {"containers": []}, "status": {"phase": phase, "containerStatuses": statuses}});
            let node = json!({"metadata": {"annotations": {KEEPS_ENDED: keeps.to_string()}}});
            let (pod, node) = (
                serde_json::from_value(pod).unwrap(),
                serde_json::from_value(node).unwrap(),
            );
            needs_volumes(&pod, Some(&node))
        };
        let (running, ended) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
        assert!(check(false, "Pending", json!([]), false));
        assert!(check(false, "Running", json!([ended]), false));
        assert!(check(true, "Running", json!([ended, running]), false));
        assert!(!check(true, "Running", json!([ended]), false));
        assert!(!check(true, "Pending", json!([]), false));
        assert!(!check(false, "Succeeded", json!([ended]), false));
        assert!(check(false, "Failed", json!([ended]), true));
    }

    #[test]
    fn claims_that_are_named_and_claims_that_are_made() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "ephemeral": {}},
            {"name": "d", "emptyDir": {}}]}});
        assert_eq!(claims_of(&serde_json::from_value(pod).unwrap()), ["c", "p-b"]);
    }
}
