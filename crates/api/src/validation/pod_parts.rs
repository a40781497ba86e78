//! What may be changed in a pod through its subresources: containers for debugging, and what containers ask for.

use super::place::{Errors, Place};
use super::pod_spec;
use crate::strategy::{qos_class, semantically_equal};
use serde_json::Value;

/// Marks a pod that mirrors a manifest of its node.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Resources that can change while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Ephemeral containers are added, never changed or removed.
pub(super) fn ephemeral_containers(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    if old.at("metadata").at("annotations").key(MIRROR).is_set() {
        *errors = vec![Place::root(new.value).forbidden("static pods do not support ephemeral containers")];
        return;
    }
    let spec = new.at("spec");
    pod_spec::validate(&spec, &[], errors);
    let (list, old_list) = (spec.at("ephemeralContainers"), old.at("spec").at("ephemeralContainers"));
    for before in old_list.items() {
        let name = before.at("name");
        let name = name.text();
        match list.items().find(|container| container.at("name").text() == name) {
            None => errors.push(list.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(now) if !semantically_equal(now.value, before.value) => {
                errors.push(list.forbidden(format!("existing ephemeral containers {name:?} may not be changed\n")));
            }
            Some(_) => {}
        }
    }
}

/// Only CPU and memory of containers that run for the pod's whole life can change, and not the pod's quality class.
pub(super) fn resize(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    if old.at("metadata").at("annotations").key(MIRROR).is_set() {
        *errors = vec![Place::root(new.value).forbidden("static pods cannot be resized")];
        return;
    }
    if old.at("spec").at("os").at("name").text() == "windows" {
        *errors = vec![Place::root(new.value).forbidden("windows pods cannot be resized")];
        return;
    }
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    pod_spec::validate(&spec, &[], errors);
    if qos_class(new.value) != old_class(old.value) {
        let why = "Pod QOS Class may not change as a result of resizing";
        let class = Place::new(new.value, "spec");
        errors.push(crate::error::FieldError::invalid(class.path, qos_class(new.value), why));
    }
    if !node_resizes(old.value) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    for list in ["containers", "initContainers"] {
        for (container, before) in spec.at(list).items().zip(old_spec.at(list).items()) {
            one(&container, &before, list == "initContainers", errors);
        }
    }
    if !semantically_equal(&fixed_part(spec.value), &fixed_part(old_spec.value)) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable\n"));
    }
}

fn one(container: &Place<'_>, before: &Place<'_>, is_init: bool, errors: &mut Errors) {
    let (resources, old) = (container.at("resources"), before.at("resources"));
    if is_init && before.at("restartPolicy").text() != "Always" {
        if !semantically_equal(resources.value, old.value) {
            errors.push(resources.forbidden("resources for non-sidecar init containers are immutable"));
        }
        return;
    }
    for (list, what) in [("requests", "requests"), ("limits", "limits")] {
        let (now, old) = (resources.at(list), old.at(list));
        let is_lost = |name: &&str| old.key(name).is_set() && !now.key(name).is_set();
        if RESIZABLE.iter().any(is_lost) {
            errors.push(now.forbidden(format!("resource {what} cannot be removed")));
        }
    }
}

fn old_class(pod: &Value) -> &str {
    let reported = pod["status"]["qosClass"].as_str().filter(|class| !class.is_empty());
    reported.unwrap_or_else(|| qos_class(pod))
}

/// Whether the pod's node tells what its running containers have been given; one that does not could not change it.
fn node_resizes(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let mut running = statuses.filter(|status| !status["state"]["running"].is_null());
    running.next().is_none_or(|status| !status["resources"].is_null())
}

/// The spec without what may change.
fn fixed_part(spec: &Value) -> Value {
    let mut rest = spec.clone();
    for list in ["containers", "initContainers"] {
        let containers = rest.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            for amounts in ["requests", "limits"] {
                let list = container["resources"][amounts].as_object();
                let others = list.into_iter().flatten();
                let others = others.filter(|(name, _)| !RESIZABLE.contains(&name.as_str()));
                container["resources"][amounts] = others.map(|(name, amount)| (name.clone(), amount.clone())).collect();
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use crate::validation::{ephemeral_containers_update, resize};
    use serde_json::{Value, json};

    fn pod(containers: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "d", "uid": "1"}, "spec": {"restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30, "schedulerName": "s",
            "securityContext": {}, "containers": containers}})
    }

    fn container(resources: Value) -> Value {
        json!({"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
            "resources": resources})
    }

    fn texts(errors: &[crate::error::FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ephemeral_containers_are_added_and_stay() {
        let old = pod(json!([container(json!({}))]));
        let mut new = old.clone();
        let mut debug = container(json!({}));
        debug["name"] = json!("debug");
        new["spec"]["ephemeralContainers"] = json!([debug]);
        assert_eq!(texts(&ephemeral_containers_update(&new, &old)), [""; 0]);
        assert_eq!(
            texts(&ephemeral_containers_update(&old, &new)),
            ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"]
        );
        let mut wrong = new.clone();
        wrong["spec"]["ephemeralContainers"][0]["name"] = json!("c");
        wrong["spec"]["ephemeralContainers"][0]["ports"] = json!([{"containerPort": 80, "protocol": "TCP"}]);
        wrong["spec"]["ephemeralContainers"][0]["targetContainerName"] = json!("x");
        assert_eq!(
            texts(&ephemeral_containers_update(&wrong, &old)),
            [
                "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ]
        );
    }

    #[test]
    fn amounts_of_running_containers_change() {
        let with = |resources: Value| pod(json!([container(resources)]));
        let old = with(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}));
        let larger = with(json!({"requests": {"cpu": "150m"}, "limits": {"cpu": "300m"}}));
        assert_eq!(texts(&resize(&larger, &old)), [""; 0]);
        let mut running = old.clone();
        running["status"] = json!({"containerStatuses": [{"state": {"running": {}}}]});
        assert_eq!(
            texts(&resize(&larger, &running)),
            ["spec: Forbidden: Pod running on node without support for resize"]
        );
        let less = with(json!({"requests": {"cpu": "100m"}}));
        assert_eq!(
            texts(&resize(&less, &old)),
            ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]
        );
        let none = with(json!({}));
        assert!(texts(&resize(&none, &old))[0].contains("Pod QOS Class may not change as a result of resizing"));
        let mut other = larger;
        other["spec"]["containers"][0]["image"] = json!("j");
        assert_eq!(
            texts(&resize(&other, &old)),
            ["spec: Forbidden: only cpu and memory resources are mutable\n"]
        );
    }
}
