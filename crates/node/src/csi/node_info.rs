//! What the API is told of drivers: the CSINode, and labels of the Node.

use super::Driver;
use crate::run::Node;
use api::k8s::api::core::v1::Node as NodeObject;
use api::k8s::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;

/// Somebody else wrote it at the same time this often at most.
const TRIES: usize = 5;

/// Writes the drivers that are known into the CSINode, and where they say this node is onto the Node. Drivers that have
/// not made themselves known since the agent began stay there, as with kubelets: they are about to.
///
/// # Errors
/// The API refused or did not answer.
pub(crate) async fn publish(
    node: &Node,
    topology: &BTreeMap<String, String>,
    gone: Option<&str>,
) -> Result<(), String> {
    let _one_at_a_time = node.drivers.telling().await;
    let nodes: Api<NodeObject> = Api::all(node.client.clone());
    let name = &node.config.node_name;
    let failed = |error: kube::Error| format!("error updating the node: {error}");
    let object = if topology.is_empty() {
        nodes.get(name).await
    } else {
        let labels = json!({"metadata": {"labels": topology}});
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(labels)).await
    };
    let object = object.map_err(failed)?;
    let drivers: Vec<CSINodeDriver> = node.drivers.all().iter().map(|driver| entry(driver)).collect();
    let mut outcome = Ok(());
    for _ in 0..TRIES {
        outcome = write(node, &object, &drivers, gone).await;
        match &outcome {
            Err(kube::Error::Api(answer)) if answer.code == 409 => {}
            _ => break,
        }
    }
    outcome.map_err(|error| format!("error updating CSINode object: {error}"))
}

async fn write(
    node: &Node,
    owner: &NodeObject,
    drivers: &[CSINodeDriver],
    gone: Option<&str>,
) -> Result<(), kube::Error> {
    let api: Api<CSINode> = Api::all(node.client.clone());
    let name = &node.config.node_name;
    let Some(mut known) = api.get_opt(name).await? else {
        let object = CSINode {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: name.clone(),
                    uid: owner.uid().unwrap_or_default(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: CSINodeSpec {
                drivers: drivers.to_vec(),
            },
        };
        return api.create(&PostParams::default(), &object).await.map(drop);
    };
    let drivers = with_unknown(&known.spec.drivers, drivers, gone);
    if known.spec.drivers == drivers {
        return Ok(());
    }
    // An entry may not change: one that did goes first.
    let kept = unchanged(&known.spec.drivers, &drivers);
    if kept.len() < known.spec.drivers.len() && !drivers.is_empty() {
        known.spec.drivers = kept;
        known = api.replace(name, &PostParams::default(), &known).await?;
    }
    known.spec.drivers = drivers;
    api.replace(name, &PostParams::default(), &known).await.map(drop)
}

/// The entries of drivers that are known, and those of others but the one that is gone.
fn with_unknown(old: &[CSINodeDriver], known: &[CSINodeDriver], gone: Option<&str>) -> Vec<CSINodeDriver> {
    let is_unknown = |old: &&CSINodeDriver| known.iter().all(|new| new.name != old.name);
    let others = old.iter().filter(|old| Some(old.name.as_str()) != gone);
    known.iter().chain(others.filter(is_unknown)).cloned().collect()
}

/// The entries that are to stay as they are, or to go altogether.
fn unchanged(old: &[CSINodeDriver], new: &[CSINodeDriver]) -> Vec<CSINodeDriver> {
    let is_changed = |old: &CSINodeDriver| new.iter().any(|new| new.name == old.name && new != old);
    old.iter().filter(|old| !is_changed(old)).cloned().collect()
}

fn entry(driver: &Driver) -> CSINodeDriver {
    CSINodeDriver {
        name: driver.name.clone(),
        node_id: driver.node_id.clone(),
        topology_keys: Some(driver.topology.keys().cloned().collect::<Vec<_>>()).filter(|keys| !keys.is_empty()),
        allocatable: driver.volumes_max.map(|max| VolumeNodeResources { count: Some(max) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_changed_goes_before_it_comes_back() {
        let entry = |name: &str, node_id: &str| CSINodeDriver {
            name: name.into(),
            node_id: node_id.into(),
            ..CSINodeDriver::default()
        };
        let old = [entry("a", "1"), entry("b", "1"), entry("gone", "1")];
        let new = [entry("a", "2"), entry("b", "1"), entry("new", "1")];
        assert_eq!(unchanged(&old, &new), [entry("b", "1"), entry("gone", "1")]);
        assert_eq!(unchanged(&old, &old), old);
        let entries = with_unknown(&old, &[entry("b", "2")], Some("gone"));
        assert_eq!(entries, [entry("b", "2"), entry("a", "1")], "a may come back");
    }
}
