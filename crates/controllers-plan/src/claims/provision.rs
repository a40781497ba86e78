//! Making volumes: local ones are ours to make, others are somebody else's, and what nobody makes is said.

use super::{
    BOUND_BY_CONTROLLER, LOCAL_FINALIZER, LOCAL_PROVISIONER, PROVISIONED_BY, SELECTED_NODE, annotation, bind, claim,
    name_of,
};
use crate::{Action, Announcement, EventType, Notice, Object, Plan, Reason, Step, Target};
use api::k8s::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use api::k8s::api::storage::v1::StorageClass;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keeps a volume's object while it is bound.
const PROTECTION_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Classes whose volumes people make by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Gives a claim that says nothing about its class the default class, if there is one.
pub(super) fn give_class(claim: &PersistentVolumeClaim, classes: &[Arc<StorageClass>]) -> Option<Plan> {
    let says_nothing = claim.spec.as_ref()?.storage_class_name.is_none();
    if !says_nothing || annotation(&claim.metadata, BETA_CLASS).is_some() {
        return None;
    }
    let is_default = |class: &&Arc<StorageClass>| annotation(&class.metadata, DEFAULT_CLASS) == Some("true");
    // The newest wins, as upstream; among equals the first by name.
    let age = |class: &Arc<StorageClass>| class.metadata.creation_timestamp.clone().map(|time| time.0);
    let newest_first = |a: &&Arc<StorageClass>, b: &&Arc<StorageClass>| {
        age(b).cmp(&age(a)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    };
    let class = classes.iter().filter(is_default).min_by(newest_first)?;
    let patch = json!({"spec": {"storageClassName": class.metadata.name}});
    let because = format!(
        "the claim names no class, and {} is the default",
        name_of(&class.metadata)
    );
    Some(Plan {
        steps: vec![Step::One(Action::patch(Target::of(claim), patch))],
        because: vec![Reason::acts(name_of(&claim.metadata), "DefaultClass", because)],
        ..Plan::default()
    })
}

/// Has a volume made for a claim.
pub(super) fn plan(claim: &PersistentVolumeClaim, class: &StorageClass, nodes: &[Arc<Node>]) -> Plan {
    if class.provisioner == NO_PROVISIONER {
        let message = format!("no volume plugin matched name: {NO_PROVISIONER}");
        return claim::waiting(claim, EventType::Warning, "ProvisioningFailed", message);
    }
    if class.provisioner != LOCAL_PROVISIONER || is_for_driver(claim, class) {
        return external(claim, class);
    }
    let node = match node_for(claim, class, nodes) {
        Ok(node) => node,
        Err(plan) => return *plan,
    };
    match local_volume(claim, class, node) {
        Ok(volume) => create(claim, class, &volume),
        Err(why) => failed(claim, class, &why),
    }
}

/// Whether a local volume must be more than a directory that anybody can make: the CSI driver of the node makes those
/// with a file system of their own, devices, and copies.
fn is_for_driver(claim: &PersistentVolumeClaim, class: &StorageClass) -> bool {
    let has_file_system = class.parameters.as_ref().is_some_and(|all| all.contains_key("fs"));
    let is_more = |spec: &api::k8s::api::core::v1::PersistentVolumeClaimSpec| {
        spec.volume_mode.as_deref() == Some("Block") || spec.data_source.is_some() || spec.data_source_ref.is_some()
    };
    has_file_system || claim.spec.as_ref().is_some_and(is_more)
}

fn failed(claim: &PersistentVolumeClaim, class: &StorageClass, why: &str) -> Plan {
    let message = format!(
        "failed to provision volume with StorageClass \"{}\": {why}",
        name_of(&class.metadata)
    );
    claim::waiting(claim, EventType::Warning, "ProvisioningFailed", message)
}

/// Names the provisioner on the claim, which is how it learns of its work, and says whom we wait for.
fn external(claim: &PersistentVolumeClaim, class: &StorageClass) -> Plan {
    let provisioner = &class.provisioner;
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    let mut plan = claim::waiting(claim, EventType::Normal, "ExternalProvisioning", message);
    let is_named = |key: &&str| annotation(&claim.metadata, key) == Some(provisioner);
    if !bind::PROVISIONER_ANNOTATIONS.iter().all(is_named) {
        let annotations: BTreeMap<&str, &str> = bind::PROVISIONER_ANNOTATIONS
            .iter()
            .map(|key| (*key, provisioner.as_str()))
            .collect();
        let patch = json!({"metadata": {"annotations": annotations}});
        plan.steps.push(Step::One(Action::patch(Target::of(claim), patch)));
    }
    plan
}

/// The node to make a local volume on: the one the scheduler chose, or any that may have pods.
fn node_for<'a>(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    nodes: &'a [Arc<Node>],
) -> Result<&'a Node, Box<Plan>> {
    if let Some(chosen) = annotation(&claim.metadata, SELECTED_NODE) {
        let found = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(chosen));
        return found
            .map(AsRef::as_ref)
            .ok_or_else(|| Box::new(choose_again(claim, class, chosen)));
    }
    let may_have_pods = |node: &&Arc<Node>| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    let possible: Vec<&Arc<Node>> = nodes
        .iter()
        .filter(may_have_pods)
        .filter(|node| allows(class, node))
        .collect();
    if possible.is_empty() {
        return Err(Box::new(failed(claim, class, "no node is available for it")));
    }
    // Different claims go to different nodes, the same claim always to the same.
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let lot = uid.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    Ok(possible[lot % possible.len()])
}

/// Tells the scheduler to choose another node, by taking its choice back.
fn choose_again(claim: &PersistentVolumeClaim, class: &StorageClass, chosen: &str) -> Plan {
    let mut plan = failed(claim, class, &format!("node \"{chosen}\" not found"));
    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: Value::Null}}});
    plan.steps.push(Step::One(Action::patch(Target::of(claim), patch)));
    plan
}

fn allows(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    terms.is_empty()
        || terms.iter().any(|term| {
            let wanted = term.match_label_expressions.as_deref().unwrap_or_default();
            wanted
                .iter()
                .all(|one| label(&one.key).is_some_and(|value| one.values.contains(value)))
        })
}

/// A directory on one node. Every access mode can be had: all pods that may use it are on that node.
fn local_volume(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node) -> Result<PersistentVolume, String> {
    let wanted = claim.spec.clone().unwrap_or_default();
    let path = class.parameters.as_ref().and_then(|parameters| parameters.get("path"));
    let path = path
        .filter(|path| path.starts_with('/'))
        .ok_or("its parameter \"path\" is not an absolute path")?;
    if wanted.selector.is_some() {
        return Err("claim.Spec.Selector is not supported".to_owned());
    }
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let annotations = [(PROVISIONED_BY, LOCAL_PROVISIONER), (BOUND_BY_CONTROLLER, "yes")];
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(
                annotations
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            finalizers: Some(vec![PROTECTION_FINALIZER.to_owned(), LOCAL_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: wanted.resources.and_then(|resources| resources.requests),
            access_modes: wanted.access_modes,
            claim_ref: Some(bind::promise(claim)),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: class.metadata.name.clone(),
            mount_options: class.mount_options.clone().filter(|options| !options.is_empty()),
            volume_mode: Some("Filesystem".to_owned()),
            host_path: Some(HostPathVolumeSource {
                path: format!("{}/{name}", path.trim_end_matches('/')),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            node_affinity: Some(only_on(node)),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

fn only_on(node: &Node) -> VolumeNodeAffinity {
    let label = node
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(HOSTNAME_LABEL).cloned());
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![label.unwrap_or_else(|| name_of(&node.metadata))]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        match_fields: None,
    };
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![term],
        }),
    }
}

fn create(claim: &PersistentVolumeClaim, class: &StorageClass, volume: &PersistentVolume) -> Plan {
    let name = name_of(&volume.metadata);
    let about = Target::of(claim);
    let failed = Notice {
        reason: "ProvisioningFailed",
        message: format!(
            "failed to provision volume with StorageClass \"{}\"",
            name_of(&class.metadata)
        ),
    };
    let announcement = Announcement {
        about: about.clone(),
        done: None,
        failed: Some(failed),
    };
    let mut steps = vec![Step::One(Action::create(Object::of(volume)).announced(announcement))];
    let mut taking = bind::take(claim, volume, Some(LOCAL_PROVISIONER));
    if let Some(Step::One(action)) = taking.first_mut() {
        let message = format!("Successfully provisioned volume {name} using {LOCAL_PROVISIONER}");
        let done = Some(Notice {
            reason: "ProvisioningSucceeded",
            message,
        });
        action.announcement = Some(Announcement {
            about,
            done,
            failed: None,
        });
    }
    steps.extend(taking);
    let because = format!(
        "no volume matches, and class {} has them made",
        name_of(&class.metadata)
    );
    let because = vec![Reason::acts(name_of(&claim.metadata), "Provisioning", because)];
    Plan {
        steps,
        because,
        ..Plan::default()
    }
}
