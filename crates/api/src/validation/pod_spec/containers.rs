//! What valid containers are.

use super::{Volumes, environment, probes, resources, security};
use crate::error::FieldError;
use crate::validation::names;
use crate::validation::place::{Errors, Place};
use std::collections::BTreeSet;

/// What is wrong with the containers of a pod spec, of all kinds.
pub(super) fn validate(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let on_host = spec.at("hostNetwork").is_true();
    let containers = spec.at("containers");
    if containers.len() == 0 {
        errors.push(containers.required(""));
    }
    let mut seen = BTreeSet::new();
    for container in containers.items() {
        unique_name(&container, &mut seen, errors);
        one(&container, volumes, on_host, errors);
        probes::validate(&container, errors);
        let policy = container.at("restartPolicy");
        if policy.is_set() {
            policy.must_be_one_of(&["Always", "Never", "OnFailure"], errors);
        }
    }
    host_ports(&containers, errors);
    for container in spec.at("initContainers").items() {
        unique_name(&container, &mut seen, errors);
        one(&container, volumes, on_host, errors);
        init(&container, errors);
        host_ports(
            &Place::new(&serde_json::json!([container.value]), &*container.path),
            errors,
        );
    }
    ephemeral(spec, volumes, errors);
}

/// Fields of containers that make no sense for one which is added to a running pod.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];

fn ephemeral(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let named = |list: &str| -> BTreeSet<String> {
        let containers = spec.at(list);
        let names = containers
            .items()
            .map(|container| container.at("name").text().to_owned());
        names.collect()
    };
    let known: BTreeSet<String> = named("containers").union(&named("initContainers")).cloned().collect();
    let mut seen: BTreeSet<String> = known.clone();
    for container in spec.at("ephemeralContainers").items() {
        let name = container.at("name");
        name.must_be_named(names::label_errors, errors);
        if !name.text().is_empty() && !seen.insert(name.text().to_owned()) {
            errors.push(name.duplicate());
        }
        let target = container.at("targetContainerName");
        if !target.text().is_empty() && !known.contains(target.text()) {
            errors.push(FieldError::not_found(&target.path, target.text()));
        }
        for field in NOT_EPHEMERAL {
            let place = container.at(field);
            if place.is_set() && place.value != &serde_json::json!([]) {
                errors.push(place.forbidden(WHY));
            }
        }
        let resources = container.at("resources");
        if resources.len() > 0 {
            errors.push(resources.forbidden(WHY));
        }
        for mount in container.at("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.at(field).text().is_empty() {
                    errors.push(mount.at(field).forbidden(WHY));
                }
            }
        }
        let mut portless = container.value.clone();
        crate::validation::place::remove(&mut portless, "ports");
        one(&Place::new(&portless, container.path.clone()), volumes, false, errors);
    }
}

fn unique_name<'a>(container: &Place<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    let name = container.at("name");
    name.must_be_named(names::label_errors, errors);
    if !name.text().is_empty() && !seen.insert(name.text()) {
        errors.push(name.duplicate());
    }
}

/// An init container that restarts always is a sidecar; only that has probes and hooks.
fn init(container: &Place<'_>, errors: &mut Errors) {
    let policy = container.at("restartPolicy");
    policy.must_be_one_of(&["Always", "Never", "OnFailure"], errors);
    if policy.text() == "Always" {
        probes::validate(container, errors);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.at(field).is_set() {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(container.at(field).forbidden(why));
        }
    }
}

/// An image must be named, without stray space.
pub(in crate::validation) fn image(container: &Place<'_>, errors: &mut Errors) {
    let image = container.at("image");
    if image.text().is_empty() {
        errors.push(image.required(""));
    } else if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

/// What is the same for containers of all kinds.
fn one(container: &Place<'_>, volumes: &Volumes<'_>, on_host: bool, errors: &mut Errors) {
    image(container, errors);
    container
        .at("terminationMessagePolicy")
        .must_be_given_of(&["File", "FallbackToLogsOnError"], errors);
    ports(&container.at("ports"), on_host, errors);
    environment::validate(container, volumes, errors);
    let devices: BTreeSet<&str> = container
        .at("volumeDevices")
        .items()
        .map(|device| device.at("devicePath").text())
        .collect();
    mounts(&container.at("volumeMounts"), volumes, &devices, errors);
    self::devices(&container.at("volumeDevices"), volumes, errors);
    container
        .at("imagePullPolicy")
        .must_be_given_of(&["Always", "IfNotPresent", "Never"], errors);
    resources::validate(&container.at("resources"), errors);
    security::container(&container.at("securityContext"), errors);
}

fn ports(ports: &Place<'_>, on_host: bool, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.text().is_empty() {
            name.must_have_form(names::port_name_errors, errors);
            if !seen.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.at("containerPort");
        if number.number().unwrap_or(0) == 0 {
            errors.push(number.required(""));
        } else {
            number.must_be_port(errors);
        }
        let host = port.at("hostPort");
        if host.number().unwrap_or(0) != 0 {
            host.must_be_port(errors);
            if on_host && host.number() != number.number() {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&number.path, number.value.clone(), why));
            }
        }
        port.at("protocol").must_be_given_of(&["SCTP", "TCP", "UDP"], errors);
        if !port.at("hostIP").text().is_empty() {
            port.at("hostIP").must_be_ip(errors);
        }
    }
}

/// Two containers of a pod cannot have the same port of the node.
fn host_ports(containers: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for container in containers.items() {
        for port in container.at("ports").items() {
            let number = port.at("hostPort").number().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let text = format!("{}/{}/{number}", port.at("protocol").text(), port.at("hostIP").text());
            if !seen.insert(text.clone()) {
                errors.push(FieldError::duplicate(port.at("hostPort").path, text));
            }
        }
    }
}

fn mounts(mounts: &Place<'_>, volumes: &Volumes<'_>, devices: &BTreeSet<&str>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for mount in mounts.items() {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        if path.text().is_empty() {
            errors.push(path.required(""));
        }
        if !volumes.contains_key(name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        if !seen.insert(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if devices.contains(path.text()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        let (sub, expression) = (mount.at("subPath"), mount.at("subPathExpr"));
        for sub in [&sub, &expression] {
            if !sub.text().is_empty() {
                super::volumes::relative_path(sub, errors);
            }
        }
        if !sub.text().is_empty() && !expression.text().is_empty() {
            errors.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        mount
            .at("mountPropagation")
            .must_be_one_of(&["Bidirectional", "HostToContainer", "None"], errors);
        mount
            .at("recursiveReadOnly")
            .must_be_one_of(&["Disabled", "Enabled", "IfPossible"], errors);
        if matches!(mount.at("recursiveReadOnly").text(), "Enabled" | "IfPossible") && !mount.at("readOnly").is_true() {
            let why = "may only be specified when readOnly is true";
            errors.push(mount.at("recursiveReadOnly").forbidden(why));
        }
    }
}

fn devices(devices: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        if path.text().is_empty() {
            errors.push(path.required(""));
        }
        if !path.text().is_empty() && !seen.insert(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        match volumes.get(name.text()) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some(&("persistentVolumeClaim" | "ephemeral")) => {}
            Some(_) => {
                errors.push(
                    name.invalid(
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    ),
                );
            }
        }
    }
}
