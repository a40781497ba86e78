//! Chains from what is asked about to the root.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use controllers_plan::why::{self, Facts, Finding};
use jiff::Timestamp;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A set `web` of three with a claim each, of which the given pods exist.
fn facts(pods: &[Value]) -> Facts {
    let set = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "s", "generation": 1 },
        "spec": {
            "replicas": 3, "serviceName": "", "podManagementPolicy": "OrderedReady",
            "selector": { "matchLabels": { "app": "nginx" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
            "template": { "metadata": { "labels": { "app": "nginx" } }, "spec": { "containers": [{ "name": "nginx" }] } },
            "volumeClaimTemplates": [{ "metadata": { "name": "www" } }],
        },
    });
    let template = set["spec"]["template"].clone();
    Facts {
        sets: vec![(serde_json::from_value(set).unwrap(), template)],
        pods: pods
            .iter()
            .map(|pod| serde_json::from_value(pod.clone()).unwrap())
            .collect(),
        ..Facts::default()
    }
}

fn pod(ordinal: u8, status: Value) -> Value {
    let owner =
        json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true });
    json!({
        "metadata": {
            "name": format!("web-{ordinal}"), "namespace": "default", "uid": format!("p{ordinal}"),
            "labels": { "app": "nginx", "statefulset.kubernetes.io/pod-name": format!("web-{ordinal}"), "apps.kubernetes.io/pod-index": ordinal.to_string() },
            "ownerReferences": [owner],
        },
        "spec": {
            "containers": [], "nodeName": "node-1",
            "volumes": [{ "name": "www", "persistentVolumeClaim": { "claimName": format!("www-web-{ordinal}") } }],
        },
        "status": status,
    })
}

fn ready() -> Value {
    json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })
}

fn shown(findings: &[Finding]) -> Vec<Vec<String>> {
    let chain = |finding: &Finding| {
        finding
            .chain
            .iter()
            .map(|link| format!("{} {}", link.object, link.reason))
            .collect()
    };
    findings.iter().map(chain).collect()
}

#[test]
fn missing_pod_leads_over_its_predecessor_to_what_was_said_of_that() {
    let waiting = json!({ "phase": "Pending", "containerStatuses": [{
        "name": "nginx", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff" } },
    }] });
    let mut facts = facts(&[pod(0, ready()), pod(1, waiting)]);
    let event = json!({
        "metadata": {}, "type": "Warning", "reason": "Failed", "message": "no such image",
        "involvedObject": { "kind": "Pod", "name": "web-1" }, "lastTimestamp": "2026-11-22T11:59:00Z",
    });
    facts.events = vec![serde_json::from_value(event).unwrap()];
    let findings = why::of_pod(&facts, "web-2", now()).unwrap();
    assert_eq!(
        shown(&findings),
        [[
            "pod/web-2 WaitsForPredecessor",
            "pod/web-1 ContainerWaiting",
            "pod/web-1 Failed"
        ]]
    );
    assert_eq!(findings[0].chain[2].message, "no such image");
    let of_set = why::of_set(&facts, "web", now()).unwrap();
    assert_eq!(of_set.len(), 1, "{of_set:?}");
    assert!(of_set[0].also.contains(&"pod/web-2".to_owned()));
}

#[test]
fn pod_without_node_leads_to_its_claim_and_that_to_its_class() {
    let mut pending = pod(
        0,
        json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available",
    }] }),
    );
    pending["spec"]["nodeName"] = Value::Null;
    let mut facts = facts(&[pending]);
    let claim = json!({ "metadata": { "name": "www-web-0" }, "spec": { "storageClassName": "fast" }, "status": { "phase": "Pending" } });
    facts.claims = vec![serde_json::from_value(claim).unwrap()];
    facts.classes =
        vec![serde_json::from_value(json!({ "metadata": { "name": "standard" }, "provisioner": "p" })).unwrap()];
    let expected = [
        "pod/web-0 Unschedulable",
        "pvc/www-web-0 ClaimPending",
        "storageclass/fast ClassMissing",
    ];
    assert_eq!(shown(&why::of_pod(&facts, "web-0", now()).unwrap()), [expected]);
    assert_eq!(
        shown(&why::of_claim(&facts, "www-web-0", now()).unwrap()),
        [expected[1..].to_vec()]
    );
}

/// `www-web-ORDINAL`, pending, of a class that waits for its first consumer.
fn late_claim(facts: &mut Facts, ordinal: u8) {
    let claim = json!({
        "metadata": { "name": format!("www-web-{ordinal}") },
        "spec": { "storageClassName": "standard" },
        "status": { "phase": "Pending" },
    });
    facts.claims.push(serde_json::from_value(claim).unwrap());
    let class = json!({
        "metadata": { "name": "standard" }, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer",
    });
    facts.classes = vec![serde_json::from_value(class).unwrap()];
}

/// A pod that no node takes.
fn unplaced(ordinal: u8) -> Value {
    let scheduled = json!({ "type": "PodScheduled", "status": "False", "message": "Insufficient cpu" });
    let mut pod = pod(ordinal, json!({ "phase": "Pending", "conditions": [scheduled] }));
    pod["spec"]["nodeName"] = Value::Null;
    pod
}

#[test]
fn claim_that_waits_for_its_pod_leads_to_what_keeps_that_from_a_node() {
    let mut facts = facts(&[unplaced(0)]);
    late_claim(&mut facts, 0);
    let of_claim = why::of_claim(&facts, "www-web-0", now()).unwrap();
    let expected = [
        "pvc/www-web-0 ClaimPending",
        "pvc/www-web-0 WaitForFirstConsumer",
        "pod/web-0 Unschedulable",
    ];
    assert_eq!(shown(&of_claim), [expected]);
    assert!(of_claim[0].chain[2].message.contains("Insufficient cpu"));
    // The pod does not wait for the claim in turn.
    let of_pod = why::of_pod(&facts, "web-0", now()).unwrap();
    assert_eq!(shown(&of_pod), [["pod/web-0 Unschedulable"]]);
}

#[test]
fn claim_that_waits_for_a_pod_that_is_not_there_leads_to_what_that_waits_for() {
    let mut facts = facts(&[pod(0, ready()), pod(1, json!({ "phase": "Running" }))]);
    late_claim(&mut facts, 2);
    let chains = shown(&why::of_claim(&facts, "www-web-2", now()).unwrap());
    assert_eq!(
        chains[0][1..],
        [
            "pvc/www-web-2 WaitForFirstConsumer",
            "pod/web-2 WaitsForPredecessor",
            "pod/web-1 NotReady"
        ]
    );
    facts.claims[0].metadata.name = Some("alone".to_owned());
    let chains = shown(&why::of_claim(&facts, "alone", now()).unwrap());
    assert_eq!(chains[0].last().unwrap(), "pvc/alone NoConsumer");
}

#[test]
fn claim_whose_pod_has_a_node_leads_to_the_provisioner() {
    let mut facts = facts(&[unplaced(0)]);
    late_claim(&mut facts, 0);
    let selected = [("volume.kubernetes.io/selected-node".to_owned(), "node-1".to_owned())];
    facts.claims[0].metadata.annotations = Some(selected.into());
    let chains = shown(&why::of_pod(&facts, "web-0", now()).unwrap());
    let expected = [
        "pod/web-0 Unschedulable",
        "pvc/www-web-0 ClaimPending",
        "pvc/www-web-0 Provisioning",
    ];
    assert_eq!(chains, [expected]);
}

#[test]
fn claim_that_is_not_there_leads_to_its_pod() {
    let facts = facts(&[pod(0, ready()), pod(1, json!({ "phase": "Running" }))]);
    let chains = shown(&why::of_claim(&facts, "www-web-2", now()).unwrap());
    assert_eq!(
        chains[0][..2],
        ["pvc/www-web-2 Absent", "pod/web-2 WaitsForPredecessor"]
    );
    assert_eq!(why::of_claim(&facts, "www-db-2", now()), None);
}

#[test]
fn pod_that_does_not_go_leads_to_its_node() {
    let mut going = pod(1, ready());
    going["metadata"]["deletionTimestamp"] = json!("2026-11-22T11:00:00Z");
    let mut facts = facts(&[pod(0, ready()), going, pod(2, ready())]);
    let node = json!({ "metadata": { "name": "node-1" }, "status": { "conditions": [{
        "type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status.",
    }] } });
    facts.nodes = vec![serde_json::from_value(node).unwrap()];
    let chains = shown(&why::of_pod(&facts, "web-1", now()).unwrap());
    assert_eq!(chains, [["pod/web-1 Terminating", "node/node-1 NodeNotReady"]]);
}

#[test]
fn service_that_gives_no_names_is_found() {
    let mut facts = facts(&[pod(0, ready()), pod(1, ready()), pod(2, ready())]);
    facts.sets[0].0.spec.as_mut().unwrap().service_name = Some("nginx".to_owned());
    let chains = shown(&why::of_set(&facts, "web", now()).unwrap());
    assert!(
        chains.contains(&vec!["sts/web ServiceMissing".to_owned()]),
        "{chains:?}"
    );
}

#[test]
fn what_is_unknown_and_what_is_not_wanted_are_told_apart() {
    let facts = facts(&[pod(0, ready()), pod(1, ready()), pod(2, ready())]);
    assert_eq!(why::of_set(&facts, "db", now()), None);
    assert_eq!(why::of_pod(&facts, "db-0", now()), None);
    assert_eq!(
        shown(&why::of_pod(&facts, "web-7", now()).unwrap()),
        [["pod/web-7 Absent"]]
    );
}
