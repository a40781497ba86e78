//! NodeRestriction: a node changes itself and its own pods, whatever its rights on these kinds are.

use super::{Operation, Review};
use crate::authz;
use crate::certificate_requests;
use crate::create::text;
use crate::node_authorizer::node_of;
use crate::status::Outcome;
use crate::tokens::claims::Binding;
use crate::user::User;
use serde_json::Value;
use std::collections::BTreeSet;

/// The signers of certificates that say who a node is.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Labels in the cluster's own domains that kubelets may set on their nodes.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];
const OWN_LABEL_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let Some(node) = node_of(&review.call.user) else {
        return Ok(());
    };
    let kind = &review.call.kind;
    match (kind.group, kind.kind) {
        ("", "Pod") => pod(review, object, node),
        ("", "Node") => own_node(review, object, node),
        ("", "PersistentVolume") => volume(review, object, node),
        (certificate_requests::GROUP, certificate_requests::KIND) => certificate_request(review, object, node),
        ("coordination.k8s.io", "Lease") => lease(review, object, node),
        ("storage.k8s.io", "CSINode") if name(object) != node => Err(review.forbidden(
            object,
            "can only access CSINode with the same name as the requesting node",
        )),
        _ => Ok(()),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}

fn pod(review: &Review<'_>, object: &Value, node: &str) -> Outcome<()> {
    let is_own = |pod: &Value| pod["spec"]["nodeName"] == node;
    let what = match (review.operation, review.call.subresource.as_str()) {
        (Operation::Create, "") => {
            if object["metadata"]["annotations"][MIRROR].is_null() {
                let why = format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
                return Err(review.forbidden(object, &why));
            }
            "create pods"
        }
        (Operation::Delete, _) => "delete pods",
        (_, "status") => "update pod status for pods",
        _ => "update pods",
    };
    if is_own(review.old.unwrap_or(object)) {
        return Ok(());
    }
    Err(review.forbidden(
        object,
        &format!("node {node:?} can only {what} with spec.nodeName set to itself"),
    ))
}

fn own_node(review: &Review<'_>, object: &Value, node: &str) -> Outcome<()> {
    if name(object) != node {
        let other = name(object);
        let why = format!("node {node:?} is not allowed to modify node {other:?}");
        return Err(review.forbidden(object, &why));
    }
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let nothing = Value::Null;
    let old = review.old.unwrap_or(&nothing);
    if review.operation == Operation::Update && old["spec"]["taints"] != object["spec"]["taints"] {
        return Err(review.forbidden(object, &format!("node {node:?} is not allowed to modify taints")));
    }
    let forbidden: Vec<&str> = changed_labels(old, object)
        .into_iter()
        .filter(|key| !is_own_label(key))
        .collect();
    if !forbidden.is_empty() {
        let verb = if review.operation == Operation::Create {
            "set"
        } else {
            "modify"
        };
        let why = format!(
            "is not allowed to {verb} the following labels: {}",
            forbidden.join(", ")
        );
        return Err(review.forbidden(object, &format!("node {node:?} {why}")));
    }
    Ok(())
}

/// The keys of labels that are new, different or gone.
fn changed_labels<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let labels = |object: &'a Value| object["metadata"]["labels"].as_object();
    let keys = [labels(old), labels(new)]
        .into_iter()
        .flatten()
        .flat_map(serde_json::Map::keys);
    let differs = |key: &&String| old["metadata"]["labels"][*key] != new["metadata"]["labels"][*key];
    keys.filter(differs).map(String::as_str).collect()
}

/// Whether a label is none of the cluster's own, or one that nodes may set.
fn is_own_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let below = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let of_cluster = below("kubernetes.io") || below("k8s.io");
    !of_cluster || OWN_LABELS.contains(&key) || OWN_LABEL_DOMAINS.iter().any(|own| below(own))
}

/// Local volumes are directories of a node; it removes them when they are released.
fn volume(review: &Review<'_>, object: &Value, node: &str) -> Outcome<()> {
    let volume = review.old.unwrap_or(object);
    let is_local = volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == "steadfast.io/local";
    let terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"].as_array();
    let mut requirements = terms
        .into_iter()
        .flatten()
        .filter_map(|term| term["matchExpressions"].as_array())
        .flatten();
    let is_here = requirements.any(|requirement| {
        let values = requirement["values"].as_array();
        requirement["key"] == "kubernetes.io/hostname"
            && values.is_some_and(|values| values.iter().any(|value| value == node))
    });
    if review.operation != Operation::Create && is_local && is_here {
        return Ok(());
    }
    Err(review.forbidden(
        object,
        &format!("node {node:?} can only change local volumes of its own"),
    ))
}

/// A node asks for certificates of its own name only.
fn certificate_request(review: &Review<'_>, object: &Value, node: &str) -> Outcome<()> {
    let signer = object["spec"]["signerName"].as_str().unwrap_or_default();
    if review.operation != Operation::Create || !NODE_SIGNERS.contains(&signer) {
        return Ok(());
    }
    let subject = certificate_requests::subject(object)
        .map_err(|why| review.forbidden(object, &format!("unable to parse csr: {why}")))?;
    let own = format!("system:node:{node}");
    if subject.common_names != [own.as_str()] {
        let why = format!("can only create a node CSR with CN={own}");
        return Err(review.forbidden(object, &why));
    }
    Ok(())
}

fn lease(review: &Review<'_>, object: &Value, node: &str) -> Outcome<()> {
    if review.call.namespace != "kube-node-lease" {
        let why = "can only access leases in the \"kube-node-lease\" system namespace";
        return Err(review.forbidden(object, why));
    }
    if name(object) != node {
        let why = "can only access node lease with the same name as the requesting node";
        return Err(review.forbidden(object, why));
    }
    Ok(())
}

/// A node gets tokens for its own pods only, and must say which pod it means.
pub(crate) fn check_token(user: &User, account: &str, binding: &Binding, reference: &Value) -> Outcome<()> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let why = if binding.pod.is_none() {
        "node requested token not bound to a pod"
    } else if text(&reference["uid"]).is_none() {
        "node requested token with a pod binding without a uid"
    } else if binding.node.as_ref().is_none_or(|own| own.name != node) {
        "node requested token bound to a pod scheduled on a different node"
    } else {
        return Ok(());
    };
    Err(authz::refused("", "serviceaccounts", account, why))
}

/// A node evicts its own pods only.
pub(crate) fn check_eviction(user: &User, pod: &Value) -> Outcome<()> {
    match node_of(user) {
        Some(node) if pod["spec"]["nodeName"] != node => {
            let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
            Err(authz::refused("", "pods", name(pod), &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_cluster_are_not_the_nodes() {
        let check = |key: &str, expected: bool| assert_eq!(is_own_label(key), expected, "{key}");
        check("disk", true);
        check("acme.com/disk", true);
        check("kubernetes.io/hostname", true);
        check("node.kubernetes.io/instance-type", true);
        check("node-restriction.kubernetes.io/secure", false);
        check("node-role.kubernetes.io/control-plane", false);
        check("x.k8s.io/y", false);
        check("notkubernetes.io/y", true);
    }
}
