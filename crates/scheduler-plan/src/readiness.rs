//! Whether a pod that was placed may be bound now: its claims must be bound first, to volumes that its node reaches.

use crate::candidate::Candidate;
use crate::placement::{ClaimStep, Placement};
use crate::snapshot::Snapshot;
use crate::volumes::{self, PodVolumes};
use api::volumes::is_promised_to;

/// How far the claims of a placed pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// All are bound: the pod can be bound.
    Ready,
    /// Somebody is still at work.
    Waiting,
    /// The placement cannot come true any more; the pod must be placed anew.
    Broken(String),
}

/// Looks at the claims of a placed pod.
pub fn readiness(pod: &Candidate, placement: &Placement, snapshot: &Snapshot) -> Readiness {
    let mut is_waiting = false;
    for step in &placement.steps {
        match step_is_done(step, placement, snapshot) {
            Ok(done) => is_waiting |= !done,
            Err(why) => return Readiness::Broken(why),
        }
    }
    if is_waiting {
        return Readiness::Waiting;
    }
    let Some(node) = snapshot.nodes.get(&placement.node) else {
        return Readiness::Broken(format!("node \"{}\" not found", placement.node));
    };
    // The watch of claims may be ahead of the watch of volumes.
    if placement.steps.iter().any(|step| !volume_is_seen(step, snapshot)) {
        return Readiness::Waiting;
    }
    match PodVolumes::of(pod, snapshot).and_then(|volumes| volumes.on(node, snapshot).map_err(|why| why.join(", "))) {
        Ok(steps) if steps.is_empty() => Readiness::Ready,
        Ok(_) => Readiness::Waiting,
        Err(why) => Readiness::Broken(why),
    }
}

fn step_is_done(step: &ClaimStep, placement: &Placement, snapshot: &Snapshot) -> Result<bool, String> {
    let key = step.claim();
    let name = &key.1;
    let Some(claim) = snapshot.claims.get(key) else {
        return Err(format!("persistentvolumeclaim \"{name}\" not found"));
    };
    if volumes::is_bound(claim) {
        return Ok(true);
    }
    match step {
        // The provisioner takes its choice back by removing the annotation.
        ClaimStep::Provision { .. } => {
            let is_seen = snapshot.chosen_node(key).is_none();
            if is_seen && volumes::selected_node(claim) != Some(&placement.node) {
                return Err(format!(
                    "provisioning of persistentvolumeclaim \"{name}\" was given up on this node"
                ));
            }
        }
        ClaimStep::Promise { volume, .. } => {
            let is_seen = snapshot.promised_claim(volume).is_none();
            let is_kept = snapshot
                .volumes
                .get(volume)
                .is_some_and(|volume| is_promised_to(volume, claim));
            if is_seen && !is_kept {
                return Err(format!("persistentvolume \"{volume}\" was given to another claim"));
            }
        }
    }
    Ok(false)
}

fn volume_is_seen(step: &ClaimStep, snapshot: &Snapshot) -> bool {
    let claim = snapshot.claims.get(step.claim());
    let name = claim.and_then(|claim| claim.spec.as_ref()?.volume_name.as_deref());
    name.is_some_and(|name| snapshot.volumes.contains_key(name))
}
