//! The questions a node must pass, in upstream's order: the first that it fails gives the reasons.

use crate::candidate::Candidate;
use crate::neighbours::Neighbours;
use crate::placement::{ClaimStep, WaitsFor};
use crate::snapshot::{NodeState, Snapshot};
use crate::volumes::PodVolumes;
use api::fit;
use api::k8s::api::core::v1::Taint;

/// Why a node was refused, in upstream's words, and what may change that.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reasons: Vec<String>,
    pub(crate) waits_for: WaitsFor,
}

fn refuse(reason: &str, waits_for: WaitsFor) -> Result<(), Refused> {
    Err(Refused {
        reasons: vec![reason.to_owned()],
        waits_for,
    })
}

/// Whether the pod may go to the node; what is then to be done about its claims.
pub(crate) fn check(
    pod: &Candidate,
    node: &NodeState,
    snapshot: &Snapshot,
    volumes: &PodVolumes<'_>,
    neighbours: &Neighbours,
) -> Result<Vec<ClaimStep>, Refused> {
    node_itself(pod, node)?;
    let expected: Vec<&Candidate> = snapshot
        .nominees(&node.name)
        .filter(|other| other.key != pod.key && other.priority >= pod.priority)
        .map(AsRef::as_ref)
        .collect();
    host_ports(pod, node, &expected)?;
    resources(pod, node, &expected)?;
    single_writer(pod, snapshot)?;
    let steps = volumes.on(node, snapshot).map_err(|reasons| Refused {
        reasons,
        waits_for: WaitsFor::VOLUMES,
    })?;
    if let Some(reason) = neighbours
        .refuse_spread(pod, node)
        .or_else(|| neighbours.refuse_affinity(pod, node))
    {
        refuse(reason, WaitsFor::PODS)?;
    }
    Ok(steps)
}

fn node_itself(pod: &Candidate, node: &NodeState) -> Result<(), Refused> {
    let cordon = || Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if node.is_unschedulable && !is_tolerated(&cordon(), pod) {
        return refuse("node(s) were unschedulable", WaitsFor::NODES);
    }
    if pod.node_name.as_ref().is_some_and(|name| *name != node.name) {
        return refuse("node(s) didn't match the requested node name", WaitsFor::NODES);
    }
    if !tolerates_taints(pod, node) {
        // Since 1.34 upstream keeps keys and values of taints out of pods' statuses.
        return refuse("node(s) had untolerated taint(s)", WaitsFor::NODES);
    }
    if !is_selected(pod, node) {
        return refuse("node(s) didn't match Pod's node affinity/selector", WaitsFor::NODES);
    }
    Ok(())
}

fn is_tolerated(taint: &Taint, pod: &Candidate) -> bool {
    pod.tolerations
        .iter()
        .any(|toleration| fit::tolerates(toleration, taint))
}

/// Whether the pod tolerates all taints that keep new pods away.
pub(crate) fn tolerates_taints(pod: &Candidate, node: &NodeState) -> bool {
    let mut left = fit::untolerated(&node.taints, &pod.tolerations, &["NoSchedule", "NoExecute"]);
    left.next().is_none()
}

/// Whether the pod's node selector and required node affinity allow the node.
pub(crate) fn is_selected(pod: &Candidate, node: &NodeState) -> bool {
    pod.node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value))
        && pod
            .node_affinity
            .as_ref()
            .is_none_or(|selector| fit::selects(selector, node.identity()))
}

fn host_ports(pod: &Candidate, node: &NodeState, expected: &[&Candidate]) -> Result<(), Refused> {
    let is_taken = |port| {
        let mut others = node.pods.values().map(AsRef::as_ref).chain(expected.iter().copied());
        others.any(|other| other.host_ports.iter().any(|theirs| fit::clash(port, theirs)))
    };
    if pod.host_ports.iter().any(is_taken) {
        return refuse(
            "node(s) didn't have free ports for the requested pod ports",
            WaitsFor::PODS_GONE,
        );
    }
    Ok(())
}

fn resources(pod: &Candidate, node: &NodeState, expected: &[&Candidate]) -> Result<(), Refused> {
    let mut reasons = Vec::new();
    let pods_max = node.allocatable.get("pods") / 1_000_000_000;
    if i128::try_from(node.pods.len() + expected.len()).unwrap_or(i128::MAX) >= pods_max {
        reasons.push("Too many pods".to_owned());
    }
    for (name, amount) in pod.requests.iter().filter(|(_, amount)| *amount > 0) {
        let kept: i128 = expected.iter().map(|other| other.requests.get(name)).sum();
        if amount > node.allocatable.get(name) - node.requested.get(name) - kept {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Refused {
            reasons,
            waits_for: WaitsFor::PODS_GONE,
        })
    }
}

/// A claim with access mode ReadWriteOncePod belongs to one pod at a time, wherever it runs.
fn single_writer(pod: &Candidate, snapshot: &Snapshot) -> Result<(), Refused> {
    let is_exclusive = |name: &String| {
        let claim = snapshot.claims.get(&(pod.key.0.clone(), name.clone()));
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_ref());
        modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
    };
    let exclusive: Vec<&String> = pod
        .claims
        .iter()
        .map(|(name, _)| name)
        .filter(|name| is_exclusive(name))
        .collect();
    if exclusive.is_empty() {
        return Ok(());
    }
    let uses_one = |other: &Candidate| other.claims.iter().any(|(name, _)| exclusive.contains(&name));
    let mut others = snapshot.nodes.values().flat_map(|node| node.pods.values());
    if others.any(|other| other.key.0 == pod.key.0 && other.key != pod.key && uses_one(other)) {
        let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        return refuse(reason, WaitsFor::PODS_GONE);
    }
    Ok(())
}
