//! What a write may touch: which part of a request is kept and which comes from the stored object.

mod configuration;
mod families;
mod job;
mod pod;
mod semantic;
mod service;

use crate::custom;
use crate::kinds::Kind;
use serde_json::{Value, json};

pub use configuration::{approve, is_status_only};
pub use families::{family, is_headless, listed, settle_families};
pub use pod::qos_class;
pub use semantic::equal as semantically_equal;

/// What a client may never change or lose by leaving it out.
const KEPT_METADATA: [&str; 6] = [
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// What a write through `/status` may change besides the status.
const STATUS_METADATA: [&str; 5] = [
    "labels",
    "annotations",
    "finalizers",
    "managedFields",
    "resourceVersion",
];

/// Readies a new object: clears status (for kinds with a status subresource, setting the initial one, e.g. a pod's
/// `phase: Pending` and `qosClass`), sets generation 1.
pub fn prepare_create(kind: &Kind, object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        remove(&mut object["metadata"], field);
    }
    // A node agent creates its Node with the status it has at hand; upstream keeps it as well.
    if kind.has_status && kind.custom.is_some() {
        remove(object, "status");
    } else if kind.has_status && kind.kind != "Node" {
        let status = initial_status(kind, object);
        object["status"] = status;
    }
    if kind.has_generation {
        object["metadata"]["generation"] = json!(1);
    }
    if kind.group.is_empty() && kind.kind == "Namespace" {
        object["spec"]["finalizers"] = json!(["kubernetes"]);
    }
    if kind.group.is_empty() && kind.kind == "Service" {
        service::list_address(object);
    }
    label_with_name(kind, object);
    if kind.group == "batch" && kind.kind == "Job" {
        job::select_own(object);
    }
    if custom::is_definition(kind) {
        custom::definition::note_storage(object);
    }
}

/// The status that a kind's objects are born with: what its required fields are without a value.
fn initial_status(kind: &Kind, object: &Value) -> Value {
    match (kind.group, kind.kind) {
        ("", "Pod") => json!({"phase": "Pending", "qosClass": qos_class(object)}),
        ("", "Namespace") => json!({"phase": "Active"}),
        ("", "PersistentVolumeClaim") => json!({"phase": "Pending"}),
        ("", "PersistentVolume") => {
            let mut status = json!({"phase": "Pending"});
            let born = &object["metadata"]["creationTimestamp"];
            if born.is_string() {
                status["lastPhaseTransitionTime"] = born.clone();
            }
            status
        }
        ("", "Service") | ("networking.k8s.io", "Ingress") => json!({"loadBalancer": {}}),
        ("apps", "StatefulSet") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => json!({"replicas": 0}),
        ("apps", "DaemonSet") => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
        }),
        ("policy", "PodDisruptionBudget") => {
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
        }
        ("storage.k8s.io", "VolumeAttachment") => json!({"attached": false}),
        ("autoscaling", "HorizontalPodAutoscaler") => configuration::autoscaler_status(kind),
        ("apiregistration.k8s.io", "APIService") => configuration::api_service_status(object),
        _ => json!({}),
    }
}

/// Readies a replacement through the main resource: status from `old`, generation +1 iff the spec changed.
pub fn prepare_update(kind: &Kind, new: &mut Value, old: &Value) {
    keep_metadata(new, old);
    if kind.has_status {
        take_field(new, old, "status");
    }
    match (kind.group, kind.kind) {
        ("", "Namespace") => {
            // Only `/finalize` may change them.
            let finalizers = old["spec"]["finalizers"].clone();
            new["spec"]["finalizers"] = finalizers;
            label_with_name(kind, new);
        }
        ("", "Service") => {
            service::keep_allocated(new, old);
            service::list_address(new);
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => take_field(new, old, "spec"),
        _ if custom::is_definition(kind) => custom::definition::note_storage(new),
        ("", "Secret") if new["type"].as_str().unwrap_or_default().is_empty() => take_field(new, old, "type"),
        _ => {}
    }
    take_field(&mut new["metadata"], &old["metadata"], "generation");
    if kind.has_generation && spec_changed(kind, new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Readies a change of a pod's ephemeral containers: everything else from `old`.
pub fn prepare_ephemeral_containers(kind: &Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    take_field(&mut merged["spec"], &new["spec"], "ephemeralContainers");
    take_field(&mut merged["metadata"], &new["metadata"], "managedFields");
    *new = merged;
    prepare_update(kind, new, old);
}

/// Readies a change of what a pod's containers ask for: everything else from `old`. Containers are told apart by their
/// names; others than those that exist are left to validation.
pub fn prepare_resize(kind: &Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    for list in ["containers", "initContainers"] {
        let wanted = new["spec"][list].as_array().cloned().unwrap_or_default();
        let containers = merged["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == container["name"]) {
                take_field(container, wanted, "resources");
                take_field(container, wanted, "resizePolicy");
            }
        }
    }
    take_field(&mut merged["metadata"], &new["metadata"], "managedFields");
    *new = merged;
    prepare_update(kind, new, old);
}

/// Whether what the generation counts is different. The few kinds without a `spec` count other fields.
fn spec_changed(kind: &Kind, new: &Value, old: &Value) -> bool {
    let differs = |field: &str| !semantic::equal(&new[field], &old[field]);
    let annotations_differ = || !semantic::equal(&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
    if kind.custom.is_some() {
        return custom_differs(kind, new, old);
    }
    let labels_differ = || !semantic::equal(&new["metadata"]["labels"], &old["metadata"]["labels"]);
    match kind.kind {
        "Deployment" | "Ingress" => differs("spec") || annotations_differ(),
        "EndpointSlice" => ["addressType", "endpoints", "ports"].into_iter().any(differs) || labels_differ(),
        "PriorityClass" => false,
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => differs("webhooks"),
        _ => differs("spec"),
    }
}

/// All of a custom resource counts but its type, its metadata, and a status that has a subresource.
fn custom_differs(kind: &Kind, new: &Value, old: &Value) -> bool {
    let counts = |name: &str| match name {
        "apiVersion" | "kind" | "metadata" => false,
        "status" => !kind.has_status,
        _ => true,
    };
    let names = [new, old]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|object| object.keys());
    names
        .filter(|name| counts(name))
        .any(|name| new.get(name) != old.get(name))
}

/// Readies a replacement through `/status`: everything but status, labels, annotations and finalizers from `old`.
pub fn prepare_status_update(kind: &Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    take_field(&mut merged, new, "status");
    let fields = if is_status_only(kind) || kind.custom.is_some() {
        &["managedFields", "resourceVersion"][..]
    } else {
        &STATUS_METADATA[..]
    };
    // Upstream keeps the labels of this kind alone.
    let keeps_labels = kind.group == "apps" && kind.kind == "Deployment";
    for field in fields.iter().filter(|field| !(keeps_labels && **field == "labels")) {
        take_field(&mut merged["metadata"], &new["metadata"], field);
    }
    if kind.group.is_empty()
        && kind.kind == "Pod"
        && merged["status"]["qosClass"].as_str().unwrap_or_default().is_empty()
    {
        take_field(&mut merged["status"], &old["status"], "qosClass");
    }
    label_with_name(kind, &mut merged);
    if kind.kind == "CertificateSigningRequest" {
        configuration::keep_decisions(&mut merged, old);
    }
    *new = merged;
}

/// Whether deleting the object is graceful, and for how many seconds: a pod's grace (option, else
/// `spec.terminationGracePeriodSeconds`; 0 if it has no node or has ended), `None` for all other kinds.
pub fn grace_period_s(kind: &Kind, object: &Value, option_s: Option<i64>) -> Option<i64> {
    if !kind.group.is_empty() || kind.kind != "Pod" {
        return None;
    }
    let has_ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let has_node = object["spec"]["nodeName"].as_str().is_some_and(|name| !name.is_empty());
    if has_ended || !has_node {
        return Some(0);
    }
    let own_s = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    let grace_s = option_s.or(own_s).unwrap_or(0);
    // Upstream takes a negative grace for the shortest one that still is graceful.
    Some(if grace_s < 0 { 1 } else { grace_s })
}

/// What only the server sets stays if the client leaves it out; a client that changes it is refused by validation. A
/// deletion that has begun can be neither taken back nor forgotten.
fn keep_metadata(new: &mut Value, old: &Value) {
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    for field in KEPT_METADATA {
        let is_missing = new["metadata"][field].is_null() || new["metadata"][field] == "";
        if is_missing || field == "deletionTimestamp" {
            take_field(&mut new["metadata"], &old["metadata"], field);
        }
    }
}

/// Every namespace can be selected by its own name, as soon as it has one; objects of other kinds stay as they are.
pub fn label_with_name(kind: &Kind, namespace: &mut Value) {
    if !kind.group.is_empty() || kind.kind != "Namespace" {
        return;
    }
    let name = namespace["metadata"]["name"].clone();
    if name.as_str().is_some_and(|name| !name.is_empty()) {
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

/// Sets a field to what it is in `from`, removing it if it is not there.
fn take_field(to: &mut Value, from: &Value, field: &str) {
    if to.is_null() {
        *to = json!({});
    }
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

fn remove(from: &mut Value, field: &str) {
    if let Some(fields) = from.as_object_mut() {
        fields.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{by_kind, by_resource};

    fn statefulsets() -> &'static Kind {
        by_resource("apps", "v1", "statefulsets").unwrap()
    }

    fn pods() -> &'static Kind {
        by_resource("", "v1", "pods").unwrap()
    }

    #[test]
    fn a3_10_status_sent_at_create_is_cleared_and_generation_is_1() {
        let mut set = json!({"metadata": {"name": "web", "generation": 7}, "spec": {}, "status": {"replicas": 5}});
        prepare_create(statefulsets(), &mut set);
        assert_eq!(set["status"], json!({"replicas": 0, "availableReplicas": 0}));
        assert_eq!(set["metadata"]["generation"], 1);
    }

    #[test]
    fn a3_13_generation_counts_spec_changes_only() {
        let old = json!({"metadata": {"name": "web", "generation": 3}, "spec": {"replicas": 1}, "status": {}});
        let mut labelled = old.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        labelled["spec"]["volumeClaimTemplates"] = json!([]);
        prepare_update(statefulsets(), &mut labelled, &old);
        assert_eq!(labelled["metadata"]["generation"], 3);
        let mut scaled = old.clone();
        scaled["spec"]["replicas"] = json!(2);
        scaled["metadata"]["generation"] = json!(99);
        prepare_update(statefulsets(), &mut scaled, &old);
        assert_eq!(scaled["metadata"]["generation"], 4);
    }

    #[test]
    fn a3_14_a_spec_update_cannot_change_status_nor_a_status_update_the_spec() {
        let old = json!({"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let sent = json!({
            "metadata": {"labels": {"x": "y"}, "annotations": {"p": "q"}, "ownerReferences": [{"uid": "1"}]},
            "spec": {"replicas": 2}, "status": {"replicas": 2},
        });
        let mut through_main = sent.clone();
        prepare_update(statefulsets(), &mut through_main, &old);
        assert_eq!(through_main["status"], old["status"]);
        let mut through_status = sent;
        prepare_status_update(statefulsets(), &mut through_status, &old);
        assert_eq!(
            through_status,
            json!({
                "metadata": {"generation": 1, "labels": {"x": "y"}, "annotations": {"p": "q"}},
                "spec": {"replicas": 1}, "status": {"replicas": 2},
            })
        );
    }

    #[test]
    fn some_kinds_keep_their_metadata_when_the_status_is_written() {
        let old = json!({"metadata": {"labels": {"a": "old"}, "annotations": {"a": "old"}}, "status": {}});
        let sent = json!({"metadata": {"labels": {"a": "new"}, "annotations": {"a": "new"}}, "status": {}});
        let kept = |group: &str, kind: &str| {
            let kind = by_kind(&format!("{group}/v1"), kind).unwrap();
            let mut new = sent.clone();
            prepare_status_update(kind, &mut new, &old);
            let is_old = |field: &str| new["metadata"][field]["a"] == "old";
            (is_old("labels"), is_old("annotations"))
        };
        assert_eq!(kept("apps", "Deployment"), (true, false));
        assert_eq!(kept("apps", "ReplicaSet"), (false, false));
        assert_eq!(kept("storage.k8s.io", "VolumeAttachment"), (true, true));
        assert_eq!(kept("apiextensions.k8s.io", "CustomResourceDefinition"), (true, true));
    }

    #[test]
    fn what_the_server_set_survives_its_absence_in_a_replacement() {
        let old = json!({"metadata": {
            "name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 4,
            "deletionTimestamp": "2026-01-02T00:00:00Z", "deletionGracePeriodSeconds": 0,
        }});
        let mut new = json!({"metadata": {"name": "a", "deletionTimestamp": null}});
        prepare_update(by_resource("", "v1", "configmaps").unwrap(), &mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn a_namespace_is_born_active_with_its_finalizer_and_label() {
        let kind = by_resource("", "v1", "namespaces").unwrap();
        let mut namespace = json!({"metadata": {"name": "gold"}});
        prepare_create(kind, &mut namespace);
        assert_eq!(
            namespace,
            json!({
                "metadata": {"name": "gold", "labels": {"kubernetes.io/metadata.name": "gold"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        );
        let mut stripped = json!({"metadata": {"name": "gold"}, "spec": {}});
        prepare_update(kind, &mut stripped, &namespace);
        assert_eq!(stripped, namespace);
    }

    #[test]
    fn a_node_keeps_the_status_it_is_created_with() {
        let mut node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}});
        prepare_create(by_resource("", "v1", "nodes").unwrap(), &mut node);
        assert_eq!(node["status"]["capacity"]["cpu"], "2");
    }

    #[test]
    fn deployments_count_annotations_too() {
        let kind = by_resource("apps", "v1", "deployments").unwrap();
        let old = json!({"metadata": {"generation": 1}, "spec": {}});
        let mut new = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {}});
        prepare_update(kind, &mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2);
    }

    #[test]
    fn the_grace_of_a_pod() {
        let pod = |node: &str, phase: &str, grace: i64| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": grace}, "status": {"phase": phase}});
        let cases = [
            (pod("n", "Running", 30), None, 30),
            (pod("n", "Running", 30), Some(5), 5),
            (pod("n", "Running", 30), Some(0), 0),
            (pod("n", "Running", -1), None, 1),
            (pod("", "Pending", 30), None, 0),
            (pod("n", "Failed", 30), None, 0),
            (pod("n", "Succeeded", 30), Some(9), 0),
        ];
        for (pod, option_s, expected_s) in cases {
            assert_eq!(grace_period_s(pods(), &pod, option_s), Some(expected_s), "{pod}");
        }
        assert_eq!(grace_period_s(statefulsets(), &json!({}), Some(5)), None);
    }
}
