//! Invariants 1 and 2: one live container per pod identity, one writer per claim, on however many nodes.

use std::collections::BTreeMap;

use crate::world::Live;

/// Two live containers of pods of one name.
pub(super) fn twins(containers: &BTreeMap<String, Live>) -> Vec<String> {
    let mut seen: BTreeMap<&str, &Live> = BTreeMap::new();
    let mut found = Vec::new();
    for live in containers.values() {
        if let Some(other) = seen.insert(&live.name, live) {
            let (one, two) = (other.node, live.node);
            found.push(format!(
                "invariant 1: {} lives twice, on node-{one} and on node-{two}",
                live.name
            ));
        }
    }
    found
}

/// Two live containers with the same claim.
pub(super) fn second_writers(containers: &BTreeMap<String, Live>) -> Vec<String> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for live in containers.values() {
        for claim in &live.claims {
            if let Some(other) = seen.insert(claim, &live.name) {
                found.push(format!(
                    "invariant 2: {claim} is written by {other} and by {}",
                    live.name
                ));
            }
        }
    }
    found
}
