//! The columns of `kubectl get`: what the server puts into a `Table`.
//!
//! Each kind has a list of columns, and a function for the cells of one object in the same order. Columns of
//! priority 1 are those of `-o wide`.

mod access;
mod computed;
mod configuration;
mod duration;
mod layout;
mod network;
mod nodes;
mod pods;
mod storage;
mod text;
mod workloads;

use crate::kinds::Kind;
use serde_json::{Value, json};

pub use duration::human;

/// One object and the moment at which it is looked at.
#[derive(Clone, Copy)]
struct Row<'a> {
    object: &'a Value,
    /// Seconds since 1970.
    now_s: i64,
}

impl Row<'_> {
    /// How long ago a time of the object is.
    fn since(&self, pointer: &str) -> String {
        duration::since(self.object.pointer(pointer).unwrap_or(&Value::Null), self.now_s)
    }

    fn age(&self) -> Value {
        json!(self.since("/metadata/creationTimestamp"))
    }

    fn name(&self) -> Value {
        json!(self.text("/metadata/name"))
    }

    /// Text, or the empty text.
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Text, or `<none>`.
    fn text_or_none(&self, pointer: &str) -> &str {
        text::or_none(self.text(pointer))
    }

    /// A number, or 0.
    fn number(&self, pointer: &str) -> i64 {
        self.object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
    }

    fn is_true(&self, pointer: &str) -> bool {
        self.object.pointer(pointer) == Some(&Value::Bool(true))
    }

    /// The items of a list; none if it is none.
    fn items(&self, pointer: &str) -> &[Value] {
        self.object
            .pointer(pointer)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// How many entries a map has.
    fn count(&self, pointer: &str) -> usize {
        self.object
            .pointer(pointer)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    }

    fn is_terminating(&self) -> bool {
        self.object["metadata"]["deletionTimestamp"].is_string()
    }
}

/// `columnDefinitions` of a kind's table.
pub fn definitions(kind: &Kind) -> Value {
    if let Some(version) = &kind.custom {
        let name = json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0});
        return std::iter::once(name).chain(version.columns()).collect();
    }
    let columns = layout::of(kind).into_iter().map(|(name, kind, priority)| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
    });
    Value::Array(columns.collect())
}

/// `cells` of one object's row. `now_s` is the time as seconds since 1970, for ages.
pub fn cells(kind: &Kind, object: &Value, now_s: i64) -> Vec<Value> {
    let row = Row { object, now_s };
    match &kind.custom {
        Some(version) => std::iter::once(row.name())
            .chain(version.cells(object, now_s))
            .collect(),
        None => computed::cells(kind, row).unwrap_or_else(|| of_table(kind, row)),
    }
}

fn of_table(kind: &Kind, row: Row<'_>) -> Vec<Value> {
    let object = row.object;
    match (kind.group, kind.kind) {
        ("", "Pod") => pods::pod(row),
        ("", "PodTemplate") => workloads::pod_template(row),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => workloads::replicas(row),
        ("apps", "StatefulSet") => workloads::statefulset(row),
        ("apps", "Deployment") => workloads::deployment(row),
        ("apps", "DaemonSet") => workloads::daemonset(row),
        ("apps", "ControllerRevision") => workloads::revision(row),
        ("batch", "Job") => workloads::job(row),
        ("batch", "CronJob") => workloads::cron_job(row),
        ("policy", "PodDisruptionBudget") => workloads::budget(row),
        ("", "Service") => network::service(row),
        ("", "Endpoints") => network::endpoints(row),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(row),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(row),
        ("networking.k8s.io", "Ingress") => network::ingress(row),
        ("networking.k8s.io", "IngressClass") => network::ingress_class(row),
        ("", "PersistentVolume") => storage::volume(row),
        ("", "PersistentVolumeClaim") => storage::claim(row),
        ("storage.k8s.io", "StorageClass") => storage::class(row),
        ("storage.k8s.io", "CSIDriver") => storage::driver(row),
        ("storage.k8s.io", "CSINode") => {
            vec![row.name(), json!(row.items("/spec/drivers").len()), row.age()]
        }
        ("storage.k8s.io", "CSIStorageCapacity") => storage::capacity(row),
        ("storage.k8s.io", "VolumeAttachment") => storage::attachment(row),
        ("", "Node") => nodes::node(row),
        ("", "Event") | ("events.k8s.io", "Event") => nodes::event(row),
        ("", "Namespace") => vec![row.name(), json!(row.text("/status/phase")), row.age()],
        ("coordination.k8s.io", "Lease") => vec![row.name(), json!(row.text("/spec/holderIdentity")), row.age()],
        ("", "ConfigMap") => {
            vec![
                row.name(),
                json!(row.count("/data") + row.count("/binaryData")),
                row.age(),
            ]
        }
        ("", "Secret") => vec![
            row.name(),
            json!(row.text("/type")),
            json!(row.count("/data")),
            row.age(),
        ],
        ("", "ServiceAccount") => vec![row.name(), json!(row.items("/secrets").len()), row.age()],
        ("", "ResourceQuota") => access::quota(row),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => access::binding(row),
        ("scheduling.k8s.io", "PriorityClass") => access::priority(row),
        ("autoscaling", "HorizontalPodAutoscaler") => configuration::autoscaler(row),
        ("certificates.k8s.io", _) => configuration::certificate_request(row),
        ("networking.k8s.io", "IPAddress") => configuration::address(row),
        ("networking.k8s.io", "ServiceCIDR") => configuration::ranges(row),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => configuration::flow_schema(row),
        ("flowcontrol.apiserver.k8s.io", _) => configuration::priority_level(row),
        ("resource.k8s.io", "ResourceClaim") => configuration::claim(row),
        ("resource.k8s.io", "ResourceSlice") => configuration::slice(row),
        ("resource.k8s.io", _) => vec![row.name(), row.age()],
        ("node.k8s.io", "RuntimeClass") => vec![row.name(), json!(row.text("/handler")), row.age()],
        ("storage.k8s.io", "VolumeAttributesClass") => vec![row.name(), json!(row.text("/driverName")), row.age()],
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            vec![row.name(), json!(row.items("/webhooks").len()), row.age()]
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy") => {
            configuration::policy(row)
        }
        ("admissionregistration.k8s.io", _) => configuration::policy_binding(row),
        ("apiregistration.k8s.io", _) => configuration::api_service(row),
        _ => vec![row.name(), object["metadata"]["creationTimestamp"].clone()],
    }
}

#[cfg(test)]
mod tests;
