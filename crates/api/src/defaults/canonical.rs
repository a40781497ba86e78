//! One form for what can be written in several: zero values, quantities, times.

use crate::{quantity, schema};
use jiff::Timestamp;
use serde_json::Value;

/// Removes fields whose value Go leaves out when it writes them: empty lists, empty maps, and the zero scalars of
/// fields that are no pointers (where a pointer's `false` or `0` says something, it stays).
pub(super) fn drop_zero(name: &str, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    let scalars = plain_scalars(name);
    fields.retain(|field, value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty() || keeps_empty_list(name, field),
        Value::Object(map) => !map.is_empty() || !is_map(name, field),
        Value::Bool(false) => !scalars.contains(&field.as_str()),
        Value::String(text) => !text.is_empty() || !scalars.contains(&field.as_str()),
        Value::Number(number) => number.as_i64() != Some(0) || !scalars.contains(&field.as_str()),
        Value::Bool(true) => true,
    });
}

/// Lists that Go writes even when they are empty.
fn keeps_empty_list(name: &str, field: &str) -> bool {
    match name {
        "discovery.v1.EndpointSlice" | "discovery.v1.Endpoint" => true,
        _ => matches!(field, "rules" | "containers" | "drivers" | "nodeSelectorTerms"),
    }
}

/// Whether a field is a map rather than a struct: an empty one is left out.
fn is_map(name: &str, field: &str) -> bool {
    match field {
        "labels"
        | "annotations"
        | "matchLabels"
        | "nodeSelector"
        | "limits"
        | "requests"
        | "data"
        | "binaryData"
        | "stringData"
        | "parameters"
        | "capacity"
        | "allocatable"
        | "overhead"
        | "volumeAttributes"
        | "hard"
        | "used"
        | "min"
        | "max"
        | "defaultRequest"
        | "maxLimitRequestRatio"
        | "allocatedResources"
        | "allocatedResourceStatuses"
        | "attachmentMetadata"
        | "disruptedPods"
        | "deprecatedTopology" => true,
        "default" => name == "core.v1.LimitRangeItem",
        "options" => name.contains("Flex"),
        "selector" => matches!(name, "core.v1.ServiceSpec" | "core.v1.ReplicationControllerSpec"),
        _ => false,
    }
}

/// The scalar fields of a type that are no pointers in Go and are left out when zero. Only where clients do write
/// zeros: those of pods, their templates, Services and metadata.
fn plain_scalars(name: &str) -> &'static [&'static str] {
    match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" => &[
            "name",
            "generateName",
            "namespace",
            "selfLink",
            "uid",
            "resourceVersion",
            "generation",
        ],
        "core.v1.PodSpec" => &[
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "hostname",
            "subdomain",
            "nodeName",
            "serviceAccountName",
            "serviceAccount",
            "schedulerName",
            "restartPolicy",
            "dnsPolicy",
            "priorityClassName",
        ],
        "core.v1.Container" | "core.v1.EphemeralContainer" => &[
            "image",
            "workingDir",
            "stdin",
            "stdinOnce",
            "tty",
            "imagePullPolicy",
            "terminationMessagePath",
            "terminationMessagePolicy",
        ],
        "core.v1.EnvVar" => &["value"],
        "core.v1.EnvFromSource" => &["prefix"],
        "core.v1.VolumeMount" => &["readOnly", "subPath", "subPathExpr"],
        "core.v1.ContainerPort" => &["name", "hostPort", "hostIP", "protocol"],
        "core.v1.Probe" => &[
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ],
        "core.v1.HTTPGetAction" => &["path", "host", "scheme"],
        "core.v1.TCPSocketAction" => &["host"],
        "core.v1.Toleration" => &["key", "operator", "value", "effect"],
        _ => other_plain_scalars(name),
    }
}

/// The same for what is no part of a container.
fn other_plain_scalars(name: &str) -> &'static [&'static str] {
    match name {
        "core.v1.PersistentVolumeClaimVolumeSource" | "core.v1.NFSVolumeSource" => &["readOnly"],
        "core.v1.PersistentVolumeClaimSpec" => &["volumeName"],
        "core.v1.PersistentVolumeSpec" => &["storageClassName", "persistentVolumeReclaimPolicy"],
        "core.v1.EmptyDirVolumeSource" => &["medium"],
        "core.v1.ServiceSpec" => &[
            "clusterIP",
            "type",
            "sessionAffinity",
            "loadBalancerIP",
            "externalName",
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "publishNotReadyAddresses",
        ],
        "core.v1.ServicePort" => &["name", "protocol", "nodePort"],
        "core.v1.NodeSpec" => &["podCIDR", "providerID", "unschedulable"],
        "apps.v1.StatefulSetSpec" => &["serviceName", "podManagementPolicy", "minReadySeconds"],
        "apps.v1.DeploymentSpec" => &["paused", "minReadySeconds"],
        "apps.v1.ReplicaSetSpec" | "apps.v1.DaemonSetSpec" => &["minReadySeconds"],
        "core.v1.ReplicationControllerSpec" => &["minReadySeconds"],
        _ => &[],
    }
}

/// Writes every quantity, and every time of the object, in the form in which Kubernetes shows it.
pub(super) fn quantities_and_times(schema: &str, object: &mut Value) {
    schema::for_each_named(schema, object, &mut |name, value| {
        let canonical = match name {
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => canonical_quantity(value),
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => canonical_time(value, 0),
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => canonical_time(value, 6),
            _ => None,
        };
        if let Some(text) = canonical {
            *value = Value::String(text);
        }
    });
}

/// A quantity may be given as a number. What is no quantity is left for decoding to refuse.
fn canonical_quantity(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => quantity::canonical(text).ok(),
        Value::Number(number) => quantity::canonical(&number.to_string()).ok(),
        _ => None,
    }
}

fn canonical_time(value: &Value, digits: usize) -> Option<String> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    if digits == 0 {
        return Timestamp::from_second(time.as_second())
            .ok()
            .map(|time| time.to_string());
    }
    Some(format!("{time:.digits$}"))
}
