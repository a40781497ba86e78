//! Discovery: which groups, versions, resources and verbs are served, in the old form and in the aggregated one.

use crate::certificate_requests;
use crate::computed;
use crate::negotiate;
use crate::query::Query;
use crate::reviews::REVIEWS;
use crate::status::Outcome;
use api::kinds::{self, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::digest;
use serde_json::{Value, json};
use std::sync::Arc;

/// The media type of the aggregated documents; clients look for it in the answer.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One resource or subresource.
struct Resource {
    group: &'static str,
    version: &'static str,
    /// With its subresource, e.g. `pods/log`.
    name: String,
    singular: &'static str,
    namespaced: bool,
    kind: &'static str,
    /// The group and version of the kind, where they are not the resource's own.
    kind_group: Option<(&'static str, &'static str)>,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    /// The group and version in whose form objects are stored, if they are.
    stored: Option<(&'static str, &'static str)>,
}

const PART: &[&str] = &["get", "patch", "update"];

/// (subresource, kind, group and version of the kind, verbs) of pods, beside status.
type PodPart = (
    &'static str,
    &'static str,
    Option<(&'static str, &'static str)>,
    &'static [&'static str],
);

const POD_PARTS: &[PodPart] = &[
    ("attach", "PodAttachOptions", None, &["create", "get"]),
    ("binding", "Binding", None, &["create"]),
    ("ephemeralcontainers", "Pod", None, PART),
    ("eviction", "Eviction", Some(("policy", "v1")), &["create"]),
    ("exec", "PodExecOptions", None, &["create", "get"]),
    ("log", "Pod", None, &["get"]),
    ("portforward", "PodPortForwardOptions", None, &["create", "get"]),
    ("proxy", "PodProxyOptions", None, PROXY),
    ("resize", "Pod", None, PART),
];

/// What may be asked of what runs behind an object.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

fn resources(custom: &[Arc<Kind>]) -> Vec<Resource> {
    let mut resources = vec![Resource {
        group: "",
        version: "v1",
        name: "bindings".to_owned(),
        singular: "binding",
        namespaced: true,
        kind: "Binding",
        kind_group: None,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
        stored: None,
    }];
    resources.extend(computed::KINDS.iter().map(|kind| Resource {
        group: kind.group,
        version: kind.version,
        name: kind.plural.to_owned(),
        singular: kind.singular,
        namespaced: kind.namespaced,
        kind: kind.kind,
        kind_group: None,
        verbs: computed::VERBS,
        short_names: kind.short_names,
        categories: kind.categories,
        stored: None,
    }));
    let all = kinds::kinds().iter().chain(custom.iter().map(Arc::as_ref));
    resources.extend(all.flat_map(of_kind));
    resources.extend(REVIEWS.iter().map(|review| Resource {
        group: review.group,
        version: "v1",
        name: review.plural.to_owned(),
        singular: review.singular,
        namespaced: review.namespaced,
        kind: review.kind,
        kind_group: None,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
        stored: None,
    }));
    resources
}

/// A kind's main resource and its subresources.
fn of_kind(kind: &Kind) -> Vec<Resource> {
    let main = Resource {
        group: kind.group,
        version: kind.version,
        name: kind.plural.to_owned(),
        singular: kind.singular,
        namespaced: kind.namespaced,
        kind: kind.kind,
        kind_group: None,
        verbs: kind.verbs(),
        short_names: kind.short_names,
        categories: kind.categories,
        stored: Some((kind.storage_group, kind.storage_version)),
    };
    let part = |name: &str, part_kind, kind_group, verbs| Resource {
        name: format!("{}/{name}", kind.plural),
        singular: "",
        kind: part_kind,
        kind_group,
        verbs,
        short_names: &[],
        categories: &[],
        stored: None,
        ..main
    };
    let mut parts = Vec::new();
    if kind.group.is_empty() && kind.kind == "Pod" {
        parts.extend(
            POD_PARTS
                .iter()
                .map(|(name, kind, group, verbs)| part(name, *kind, *group, *verbs)),
        );
    }
    if kind.group.is_empty() && kind.kind == "Node" {
        parts.push(part("proxy", "NodeProxyOptions", None, PROXY));
    }
    if kind.group.is_empty() && kind.kind == "Service" {
        parts.push(part("proxy", "ServiceProxyOptions", None, PROXY));
    }
    if kind.group.is_empty() && kind.kind == "ServiceAccount" {
        let group = Some(("authentication.k8s.io", "v1"));
        parts.push(part("token", "TokenRequest", group, &["create"]));
    }
    if kind.group.is_empty() && kind.kind == "Namespace" {
        parts.push(part("finalize", kind.kind, None, &["update"]));
    }
    if certificate_requests::is_request(kind) {
        parts.push(part("approval", kind.kind, None, PART));
    }
    if kind.has_scale {
        parts.push(part("scale", "Scale", Some(("autoscaling", "v1")), PART));
    }
    if kind.has_status {
        parts.push(part("status", kind.kind, None, PART));
    }
    parts.insert(0, main);
    parts
}

/// The groups in upstream's order of preference; it decides which group a short name means.
const GROUPS: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "metrics.k8s.io",
];

/// The served (group, version) pairs in order of preference.
pub(crate) fn group_versions(custom: &[Arc<Kind>]) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for resource in resources(custom) {
        if !found.contains(&(resource.group, resource.version)) {
            found.push((resource.group, resource.version));
        }
    }
    let place = |group: &str| GROUPS.iter().position(|known| *known == group);
    // Groups that are not upstream's own come last, as they were found.
    found.sort_by_key(|(group, _)| place(group).unwrap_or(usize::MAX));
    found
}

/// The document at a path of discovery in its old form.
pub(crate) fn document(path: &str, server_address: &str, custom: &[Arc<Kind>]) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]})),
        ["api", version] => resource_list("", version, custom),
        ["apis"] => Some(group_list(custom)),
        ["apis", group] => api_group(group, custom).map(|mut group| {
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }),
        ["apis", group, version] => resource_list(group, version, custom),
        _ => None,
    }
}

fn group_list(custom: &[Arc<Kind>]) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in group_versions(custom) {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    let groups: Vec<Value> = names.into_iter().filter_map(|name| api_group(name, custom)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn api_group(name: &str, custom: &[Arc<Kind>]) -> Option<Value> {
    let versions = group_versions(custom)
        .into_iter()
        .filter(|(group, _)| *group == name && !group.is_empty());
    let versions: Vec<Value> = versions
        .map(|(group, version)| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

fn resource_list(group: &str, version: &str, custom: &[Arc<Kind>]) -> Option<Value> {
    let mut found: Vec<Resource> = resources(custom)
        .into_iter()
        .filter(|resource| resource.group == group && resource.version == version)
        .collect();
    if found.is_empty() {
        return None;
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let found: Vec<Value> = found.iter().map(Resource::listed).collect();
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}))
}

impl Resource {
    /// As it stands in an `APIResourceList`.
    fn listed(&self) -> Value {
        let mut listed = json!({"name": self.name, "singularName": self.singular, "namespaced": self.namespaced,
            "kind": self.kind, "verbs": self.verbs});
        if let Some((group, version)) = self.kind_group {
            listed["group"] = json!(group);
            listed["version"] = json!(version);
        }
        if !self.short_names.is_empty() {
            listed["shortNames"] = json!(self.short_names);
        }
        if !self.categories.is_empty() {
            listed["categories"] = json!(self.categories);
        }
        if let Some((group, version)) = self.stored {
            listed["storageVersionHash"] = json!(storage_hash(group, version, self.kind));
        }
        listed
    }

    /// As it stands in an aggregated document, without subresources.
    fn aggregated(&self) -> Value {
        let (group, version) = self.kind_group.unwrap_or(("", ""));
        let kind = json!({"group": group, "version": version, "kind": self.kind});
        if let Some((_, subresource)) = self.name.split_once('/') {
            return json!({"subresource": subresource, "responseKind": kind, "verbs": self.verbs});
        }
        let scope = if self.namespaced { "Namespaced" } else { "Cluster" };
        let mut resource = json!({"resource": self.name, "responseKind": kind, "scope": scope,
            "singularResource": self.singular, "verbs": self.verbs});
        if !self.short_names.is_empty() {
            resource["shortNames"] = json!(self.short_names);
        }
        if !self.categories.is_empty() {
            resource["categories"] = json!(self.categories);
        }
        resource
    }
}

/// Tells clients when the stored form changes.
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let identity = format!("{group}/{version}/{kind}");
    STANDARD.encode(&digest::digest(&digest::SHA256, identity.as_bytes()).as_ref()[..8])
}

/// The aggregated document at `/api` (only the core group) or `/apis` (all others).
pub(crate) fn aggregated(path: &str, custom: &[Arc<Kind>]) -> Option<Value> {
    let core = match path {
        "/api" => true,
        "/apis" => false,
        _ => return None,
    };
    let mut items: Vec<Value> = Vec::new();
    for (group, version) in group_versions(custom)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
    {
        let version = json!({"version": version, "resources": aggregated_resources(group, version, custom),
            "freshness": "Current"});
        let same = items.iter_mut().find(|item| item["metadata"]["name"] == group && !core);
        match same.and_then(|item| item["versions"].as_array_mut()) {
            Some(versions) => versions.push(version),
            None => {
                let metadata = if core { json!({}) } else { json!({"name": group}) };
                items.push(json!({"metadata": metadata, "versions": [version]}));
            }
        }
    }
    Some(
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}),
    )
}

fn aggregated_resources(group: &str, version: &str, custom: &[Arc<Kind>]) -> Vec<Value> {
    let mut all: Vec<Resource> = resources(custom)
        .into_iter()
        .filter(|resource| resource.group == group && resource.version == version)
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let mains = all.iter().filter(|resource| !resource.name.contains('/'));
    mains
        .map(|main| {
            let mut resource = main.aggregated();
            let prefix = format!("{}/", main.name);
            let parts: Vec<Value> = all
                .iter()
                .filter(|part| part.name.starts_with(&prefix))
                .map(Resource::aggregated)
                .collect();
            if !parts.is_empty() {
                resource["subresources"] = json!(parts);
            }
            resource
        })
        .collect()
}

/// Whether the client understands the aggregated form.
pub(crate) fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers
        .get_all(http::header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accept
        .flat_map(|value| value.split(','))
        .map(|clause| clause.replace(' ', ""))
        .any(|clause| {
            let has = |parameter: &str| clause.split(';').any(|part| part == parameter);
            has("application/json") && has("as=APIGroupDiscoveryList") && has("v=v2") && has("g=apidiscovery.k8s.io")
        })
}

/// Whether the client takes JSON at all.
pub(crate) fn check_accept(headers: &HeaderMap, query: &Query) -> Outcome<()> {
    negotiate::form(headers, query, false).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_hashes_are_upstreams() {
        let list = document("/apis/apps/v1", "", &[]).unwrap();
        let resources = list["resources"].as_array().unwrap();
        let sets = resources
            .iter()
            .find(|resource| resource["name"] == "statefulsets")
            .unwrap();
        assert_eq!(sets["storageVersionHash"], "H+vl74LkKdo=");
        assert_eq!(sets["verbs"].as_array().unwrap().len(), 8);
        let scale = resources
            .iter()
            .find(|resource| resource["name"] == "statefulsets/scale")
            .unwrap();
        assert_eq!(
            (&scale["group"], &scale["kind"]),
            (&json!("autoscaling"), &json!("Scale"))
        );
    }

    #[test]
    fn aggregated_documents_hold_each_group_once_with_subresources() {
        let core = aggregated("/api", &[]).unwrap();
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap().clone();
        let pods = resources
            .iter()
            .find(|resource| resource["resource"] == "pods")
            .unwrap();
        let parts: Vec<&str> = pods["subresources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["subresource"].as_str().unwrap())
            .collect();
        let expected = [
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "proxy",
            "resize",
            "status",
        ];
        assert_eq!(parts, expected);
        let groups = aggregated("/apis", &[]).unwrap();
        let groups: Vec<&str> = groups["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap())
            .collect();
        assert!(groups.contains(&"apps"));
        assert_eq!(
            groups.len(),
            groups.iter().collect::<std::collections::BTreeSet<_>>().len()
        );
    }

    #[test]
    fn aggregation_is_asked_for_by_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, AGGREGATED.parse().unwrap());
        assert!(wants_aggregated(&headers));
        headers.insert(http::header::ACCEPT, "application/json".parse().unwrap());
        assert!(!wants_aggregated(&headers));
    }
}
