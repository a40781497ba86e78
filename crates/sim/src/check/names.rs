//! Invariant 5: the name of a pod leads to that pod or to nobody, never to a stranger.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::Live;

/// The addresses in a slice at which somebody else lives than the name says.
pub(super) fn strangers(slice: &Value, containers: &BTreeMap<String, Live>) -> Vec<String> {
    let mut found = Vec::new();
    for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
        let Some(host) = endpoint["hostname"].as_str() else {
            continue;
        };
        for address in endpoint["addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let here = containers.values().find(|live| live.ip == address);
            if let Some(stranger) = here.filter(|live| live.name != host) {
                found.push(format!(
                    "invariant 5: the name {host} leads to {address}, where {} lives",
                    stranger.name
                ));
            }
        }
    }
    found
}
