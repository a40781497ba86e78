//! The row that attaches volumes of CSI drivers to nodes, and detaches them.
//!
//! Where no volume is a driver's, nothing here is ever woken.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::storage::v1::{CSIDriver, VolumeAttachment};
use controllers_plan::attach_detach::{
    Attachment, Elsewhere, Memory, Need, Observed, Volume, claims_of, is_attached_first, needs_volumes, plan,
};
use controllers_plan::{Key, Kind, Plan, node_lifecycle};
use jiff::Timestamp;

use super::Row;
use super::keys::{BY_NODE, name_of, namespace_of, node_terms, on_node};
use crate::cache::Change;
use crate::caches::{Caches, Watch};

/// The name of the controller.
pub(crate) const NAME: &str = "persistentvolume-attach-detach-controller";

/// The index of pods by their claims.
const BY_CLAIM: &str = "claim";

/// The index of VolumeAttachments by their nodes and volumes.
const BY_PLACE: &str = "place";

/// Pods get their volumes attached.
pub(crate) fn row() -> Row {
    let memories: Mutex<Memories> = Mutex::default();
    Row {
        name: NAME,
        watches: vec![
            Watch::on::<Pod>(node_of_pod)
                .indexed(BY_NODE, node_terms)
                .indexed(BY_CLAIM, claim_terms),
            Watch::on::<PersistentVolumeClaim>(nodes_of_claim),
            Watch::on::<PersistentVolume>(nodes_of_volume),
            Watch::on::<Node>(node_itself),
            Watch::on::<CSIDriver>(all_nodes),
            Watch::on::<VolumeAttachment>(nodes_of_attachment).indexed(BY_PLACE, place_terms),
        ],
        decide: Box::new(move |caches, key, now| {
            // One at a time, so that no volume is promised to two nodes.
            let mut memories = memories.lock().unwrap_or_else(PoisonError::into_inner);
            decide(caches, &key.name, &mut memories, now)
        }),
    }
}

/// What is remembered of each node.
type Memories = HashMap<String, Memory>;

fn decide(caches: &Caches, node: &str, memories: &mut Memories, now: Timestamp) -> Plan {
    let mut memory = memories.remove(node).unwrap_or_default();
    let plan = plan(&observe(caches, node, memories), &mut memory, now);
    if memory != Memory::default() {
        memories.insert(node.to_owned(), memory);
    }
    plan
}

fn observe(caches: &Caches, name: &str, others: &Memories) -> Observed {
    let node = caches.of::<Node>().get("", name);
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    for pod in on_node(caches.of::<Pod>(), name) {
        if !needs_volumes(&pod, node.as_deref()) {
            continue;
        }
        for volume in claims_of(&pod)
            .iter()
            .filter_map(|claim| attached_first(caches, &pod, claim))
        {
            let unique = volume.unique_name();
            let need = needs.entry(unique).or_insert_with(|| Need {
                volume,
                pods: Vec::new(),
                elsewhere: BTreeMap::new(),
            });
            need.pods.push(pod.clone());
        }
    }
    for need in needs.values_mut().filter(|need| !need.volume.is_shareable) {
        need.elsewhere = elsewhere(caches, name, &need.volume, others);
    }
    let attachments = caches.of::<VolumeAttachment>().with_term(&node_term(name));
    Observed {
        name: name.to_owned(),
        node,
        needs: needs.into_values().collect(),
        attachments: attachments.into_iter().map(|object| known(caches, object)).collect(),
    }
}

fn known(caches: &Caches, object: Arc<VolumeAttachment>) -> Attachment {
    let volume = object.spec.source.persistent_volume_name.as_deref();
    let volume = volume.and_then(|name| caches.of::<PersistentVolume>().get("", name));
    Attachment {
        volume: volume.and_then(|volume| Volume::of(&volume)),
        object,
    }
}

/// The volume that a claim of a pod is bound to, if it is one that is attached before it is mounted.
fn attached_first(caches: &Caches, pod: &Pod, claim: &str) -> Option<Volume> {
    let claim = caches
        .of::<PersistentVolumeClaim>()
        .get(namespace_of(&pod.metadata), claim)?;
    let volume = claim.spec.as_ref()?.volume_name.as_deref()?;
    let volume = caches.of::<PersistentVolume>().get("", volume)?;
    let promise = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let volume = Volume::of(&volume).filter(|_| promise.uid == claim.metadata.uid)?;
    let driver = caches.of::<CSIDriver>().get("", &volume.driver);
    is_attached_first(driver.as_deref()).then_some(volume)
}

fn elsewhere(caches: &Caches, here: &str, volume: &Volume, others: &Memories) -> BTreeMap<String, Elsewhere> {
    let mut found: BTreeMap<String, Elsewhere> = BTreeMap::new();
    let unique = volume.unique_name();
    let promised = others.iter().filter(|(_, memory)| memory.promised.contains(&unique));
    found.extend(promised.map(|(node, _)| (node.clone(), Elsewhere::default())));
    for attachment in caches.of::<VolumeAttachment>().with_term(&volume_term(&volume.name)) {
        let node = &attachment.spec.node_name;
        if node != here && attachment.spec.attacher == volume.driver {
            let pods = users(caches, &volume.name);
            let is_there = |pod: &Arc<Pod>| node_name(pod) == Some(node) && needs_volumes(pod, None);
            let there = Elsewhere {
                is_made: true,
                pods: pods.into_iter().filter(is_there).collect(),
            };
            found.insert(node.clone(), there);
        }
    }
    found
}

/// The pods that have the claim that a volume is promised to.
fn users(caches: &Caches, volume: &str) -> Vec<Arc<Pod>> {
    let volume = caches.of::<PersistentVolume>().get("", volume);
    volume.map(|volume| users_of(caches, &volume)).unwrap_or_default()
}

fn users_of(caches: &Caches, volume: &PersistentVolume) -> Vec<Arc<Pod>> {
    let promise = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let claim = promise.and_then(|claim| Some((claim.namespace.as_deref()?, claim.name.as_deref()?)));
    let term = claim.map(|(namespace, name)| claim_term(namespace, name));
    term.map(|term| caches.of::<Pod>().with_term(&term)).unwrap_or_default()
}

fn node_key(name: &str) -> Key {
    Key::new(Kind::of::<Node>(), "", name)
}

fn keys_of(pods: &[Arc<Pod>]) -> Vec<Key> {
    let mut nodes: Vec<&str> = pods.iter().filter_map(|pod| node_name(pod)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().map(node_key).collect()
}

fn node_name(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// A pod concerns its node if it has a volume that is attached first, or had one when that was still known.
fn node_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let pod = change.latest();
    let claims = claims_of(pod);
    let Some(node) = node_name(pod).filter(|_| !claims.is_empty()) else {
        return Vec::new();
    };
    let needs = |pod: &Arc<Pod>| node_name(pod).is_some() && needs_volumes(pod, None);
    let is_news = change.new.as_ref().is_some_and(needs) != change.old.as_ref().is_some_and(needs);
    let has_any = || caches.of::<VolumeAttachment>().count(&node_term(node)) > 0;
    if is_news && (has_any() || claims.iter().any(|claim| attached_first(caches, pod, claim).is_some())) {
        vec![node_key(node)]
    } else {
        Vec::new()
    }
}

fn nodes_of_claim(caches: &Caches, change: &Change<PersistentVolumeClaim>) -> Vec<Key> {
    let bound = |claim: &Arc<PersistentVolumeClaim>| claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let volume = change.new.as_ref().and_then(bound);
    let meta = &change.latest().metadata;
    if volume == change.old.as_ref().and_then(bound) {
        return Vec::new();
    }
    let volume = volume.and_then(|volume| caches.of::<PersistentVolume>().get("", &volume));
    if volume.and_then(|volume| Volume::of(&volume)).is_none() {
        return Vec::new();
    }
    let term = claim_term(namespace_of(meta), name_of(meta));
    keys_of(&caches.of::<Pod>().with_term(&term))
}

fn nodes_of_volume(caches: &Caches, change: &Change<PersistentVolume>) -> Vec<Key> {
    let volume = change.latest();
    let essence = |volume: &Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref()?;
        Some((Volume::of(volume)?, spec.claim_ref.clone()))
    };
    if Volume::of(volume).is_none() || change.new.as_ref().map(essence) == change.old.as_ref().map(essence) {
        return Vec::new();
    }
    let attachments = caches
        .of::<VolumeAttachment>()
        .with_term(&volume_term(name_of(&volume.metadata)));
    let attached = attachments
        .iter()
        .map(|attachment| node_key(&attachment.spec.node_name));
    keys_of(&users_of(caches, volume)).into_iter().chain(attached).collect()
}

/// A node that has or is to have something attached is looked at when it changes in what counts.
fn node_itself(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    let essence = |node: &Arc<Node>| {
        let status = node.status.as_ref();
        (
            status.and_then(|status| status.volumes_attached.clone()),
            status.and_then(|status| status.volumes_in_use.clone()),
            node.metadata.annotations.clone(),
            node.spec.as_ref().and_then(|spec| spec.taints.clone()),
            node_lifecycle::is_ready(node),
        )
    };
    if change.new.as_ref().map(essence) == change.old.as_ref().map(essence) {
        return Vec::new();
    }
    let node = change.latest();
    let name = name_of(&node.metadata);
    let lists = node.status.as_ref().and_then(|status| status.volumes_attached.as_ref());
    let is_new = change.old.is_none();
    let has_any = || caches.of::<VolumeAttachment>().count(&node_term(name)) > 0;
    if is_new || lists.is_some_and(|lists| !lists.is_empty()) || has_any() {
        vec![node_key(name)]
    } else {
        Vec::new()
    }
}

/// Whether volumes are attached first is a matter of their driver.
fn all_nodes(caches: &Caches, change: &Change<CSIDriver>) -> Vec<Key> {
    let says = |driver: &Arc<CSIDriver>| is_attached_first(Some(driver));
    if change.new.as_ref().is_none_or(says) == change.old.as_ref().is_none_or(says) {
        return Vec::new();
    }
    let nodes = caches.of::<Node>().all();
    nodes.iter().map(|node| node_key(name_of(&node.metadata))).collect()
}

/// What becomes of a VolumeAttachment concerns its node, and those that wait for the volume.
fn nodes_of_attachment(caches: &Caches, change: &Change<VolumeAttachment>) -> Vec<Key> {
    let spec = &change.latest().spec;
    let volume = spec.source.persistent_volume_name.as_deref();
    let waiting = volume.map(|volume| keys_of(&users(caches, volume)));
    let mut keys = waiting.unwrap_or_default();
    keys.push(node_key(&spec.node_name));
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn claim_terms(pod: &Pod) -> Vec<String> {
    let namespace = namespace_of(&pod.metadata);
    claims_of(pod)
        .iter()
        .map(|claim| claim_term(namespace, claim))
        .collect()
}

fn claim_term(namespace: &str, name: &str) -> String {
    format!("^{namespace}/{name}")
}

fn place_terms(attachment: &VolumeAttachment) -> Vec<String> {
    let volume = attachment.spec.source.persistent_volume_name.as_deref();
    let node = node_term(&attachment.spec.node_name);
    volume.map(volume_term).into_iter().chain([node]).collect()
}

fn node_term(node: &str) -> String {
    format!("@{node}")
}

fn volume_term(volume: &str) -> String {
    format!("^{volume}")
}
