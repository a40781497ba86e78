//! Who a pod of a set is: name, ordinal, labels, and the pod made of a template (A1).

use api::k8s::api::apps::v1::StatefulSet;
use api::k8s::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::{Key, Kind, Object, owner_reference};

use super::claims;

/// The label with the pod's own name.
pub const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label with the pod's ordinal.
pub const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// The label with the name of the pod's ControllerRevision.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// Parent and ordinal that a pod's name tells (A1.2): what stands before the last dash, and the digits after it. The
/// ordinal is `None` if it has no place in 32 bits.
pub fn parse_name(name: &str) -> Option<(&str, Option<i64>)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| (parent, digits.parse::<i32>().ok().map(i64::from)))
}

/// The name of the pod of an ordinal (A1.1).
pub fn pod_name(set_name: &str, ordinal: i64) -> String {
    format!("{set_name}-{ordinal}")
}

/// A label's value; empty if there is none.
pub(crate) fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(key))
        .map_or("", String::as_str)
}

/// The pod of an ordinal, made of a template (A1.5 to A1.7).
pub(crate) fn new_pod(set: &StatefulSet, template: &Value, ordinal: i64, revision: &str) -> Object {
    let set_name = set.metadata.name.clone().unwrap_or_default();
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    let name = pod_name(&set_name, ordinal);
    let mut labels = object_at(template, "/metadata/labels");
    labels.insert(POD_NAME_LABEL.to_owned(), json!(name));
    labels.insert(POD_INDEX_LABEL.to_owned(), json!(ordinal.to_string()));
    labels.insert(REVISION_LABEL.to_owned(), json!(revision));
    let owner = owner_reference(Kind::of::<StatefulSet>(), &set.metadata);
    let mut metadata = json!({
        "name": name, "generateName": format!("{set_name}-"), "namespace": namespace,
        "labels": labels, "ownerReferences": [owner],
    });
    for inherited in ["annotations", "finalizers"] {
        if let Some(value) = template
            .pointer(&format!("/metadata/{inherited}"))
            .filter(|value| !value.is_null())
        {
            metadata[inherited] = value.clone();
        }
    }
    let body = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(set, template, ordinal, &name),
    });
    Object {
        key: Key::new(Kind::of::<Pod>(), namespace, name),
        body,
    }
}

fn pod_spec(set: &StatefulSet, template: &Value, ordinal: i64, name: &str) -> Map<String, Value> {
    let mut spec = object_at(template, "/spec");
    spec.insert("hostname".to_owned(), json!(name));
    let service = set
        .spec
        .as_ref()
        .and_then(|spec| spec.service_name.clone())
        .unwrap_or_default();
    if service.is_empty() {
        spec.remove("subdomain");
    } else {
        spec.insert("subdomain".to_owned(), json!(service));
    }
    let claimed = claims::names(set, ordinal);
    let mut volumes: Vec<Value> = Vec::new();
    for (volume, claim) in &claimed {
        volumes.push(json!({ "name": volume, "persistentVolumeClaim": { "claimName": claim } }));
    }
    let given = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let kept = given.filter(|volume| !claimed.iter().any(|(name, _)| volume["name"] == json!(name)));
    volumes.extend(kept.cloned());
    if !volumes.is_empty() {
        spec.insert("volumes".to_owned(), Value::Array(volumes));
    }
    spec
}

fn object_at(value: &Value, pointer: &str) -> Map<String, Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The patch that gives a pod its identity labels back, if it lacks them (A1.8, and the index label besides).
pub(crate) fn repair(pod: &Pod, name: &str, ordinal: i64) -> Option<Value> {
    let index = ordinal.to_string();
    let is_right = label(pod, POD_NAME_LABEL) == name && label(pod, POD_INDEX_LABEL) == index;
    (!is_right).then(|| json!({ "metadata": { "labels": { POD_NAME_LABEL: name, POD_INDEX_LABEL: index } } }))
}

/// The first volume that does not point at the pod's own claim (A1.9): its name.
pub(crate) fn foreign_volume(set: &StatefulSet, pod: &Pod, ordinal: i64) -> Option<String> {
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mounts = |volume: &str, claim: &str| {
        volumes().any(|known| {
            known.name == volume
                && known
                    .persistent_volume_claim
                    .as_ref()
                    .is_some_and(|source| source.claim_name == claim)
        })
    };
    claims::names(set, ordinal)
        .into_iter()
        .find(|(volume, claim)| !mounts(volume, claim))
        .map(|(volume, _)| volume)
}
