//! What a valid object is, kind by kind; errors with the paths, types and words of upstream.
//!
//! Rules are written over [`place::Place`], a value that knows its path. They assume decoded objects with defaults:
//! every value has the type its schema says, so a field that is absent or of another type reads as nothing.

mod addresses;
mod admission;
mod advice;
mod autoscalers;
mod certificates;
mod claims;
mod classes;
mod cluster;
mod contents;
mod devices;
mod families;
mod flowcontrol;
mod gaps;
mod jobs;
mod metadata;
pub mod names;
mod place;
mod pod_parts;
mod pod_spec;
mod pods;
mod selectors;
mod services;
mod statefulsets;
mod workloads;

use crate::custom;
use crate::error::FieldError;
use crate::kinds::Kind;
use metadata::{FinalizerNames, finalizer_names};
use place::{Errors, Place};
use serde_json::Value;

/// What is wrong with the addresses and families of a Service that is about to get what it lacks of them.
pub(crate) fn service_families(service: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    families::check(&Place::root(service), &mut errors);
    errors
}

/// What is wrong with a new object (defaults already applied).
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let object = Place::root(object);
    metadata::create(kind, &object, &mut errors);
    if let Some(version) = &kind.custom {
        errors.extend(version.check(object.value, None));
        return errors;
    }
    if custom::is_definition(kind) {
        errors.extend(custom::definition::validate(object.value, None));
        return errors;
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pods::create(&object, &mut errors),
        ("apps", "StatefulSet") => statefulsets::create(&object, &mut errors),
        ("apps", "ControllerRevision") => contents::revision(&object, &mut errors),
        ("", "ConfigMap") => contents::config_map(&object, &mut errors),
        ("", "Secret") => contents::secret(&object, &mut errors),
        ("", "Service") => services::create(&object, &mut errors),
        ("", "Endpoints") => services::endpoints(&object, &mut errors),
        ("discovery.k8s.io", "EndpointSlice") => services::slice(&object, &mut errors),
        ("", "PersistentVolumeClaim") => claims::create(&object, &mut errors),
        ("", "PersistentVolume") => claims::create_volume(&object, &mut errors),
        ("storage.k8s.io", "StorageClass") => claims::create_class(&object, &mut errors),
        ("apps" | "batch" | "policy", _) | ("", "ReplicationController" | "PodTemplate") => {
            workloads::create(kind, &object, &mut errors);
        }
        _ => {
            cluster::create(kind, &object, &mut errors);
            configuration(kind, &object, &mut errors);
        }
    }
    errors
}

/// What is wrong with an object of the kinds that configure a cluster or describe what it has.
fn configuration(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("admissionregistration.k8s.io", _) => admission::create(kind, object, errors),
        ("autoscaling", _) => autoscalers::create(object, errors),
        ("certificates.k8s.io", _) => certificates::create(object, errors),
        ("flowcontrol.apiserver.k8s.io", _) => flowcontrol::create(kind, object, errors),
        ("resource.k8s.io", _) => devices::create(kind, object, errors),
        ("networking.k8s.io", "IPAddress" | "ServiceCIDR") => addresses::create(kind.kind, object, errors),
        _ => classes::create(kind, object, errors),
    }
}

/// What is wrong with replacing an object of those kinds.
fn update_configuration(kind: &Kind, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("admissionregistration.k8s.io", _) => admission::create(kind, new, errors),
        ("autoscaling", _) => autoscalers::create(new, errors),
        ("certificates.k8s.io", _) => certificates::update(new, old, false, errors),
        ("flowcontrol.apiserver.k8s.io", _) => flowcontrol::create(kind, new, errors),
        ("resource.k8s.io", _) => devices::update(kind, new, old, errors),
        ("networking.k8s.io", "IPAddress" | "ServiceCIDR") => addresses::update(kind.kind, new, old, errors),
        _ => classes::update(kind, new, old, errors),
    }
}

/// What is wrong with replacing `old` by `new` through the main resource (defaults already applied).
pub fn update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (Place::root(new), Place::root(old));
    metadata::update(&new, &old, finalizer_names(kind), &mut errors);
    if let Some(version) = &kind.custom {
        errors.extend(version.check(new.value, Some(old.value)));
        return errors;
    }
    if custom::is_definition(kind) {
        errors.extend(custom::definition::validate(new.value, Some(old.value)));
        return errors;
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pods::update(&new, &old, &mut errors),
        ("apps", "StatefulSet") => statefulsets::update(&new, &old, &mut errors),
        ("apps", "ControllerRevision") => contents::update_revision(&new, &old, &mut errors),
        ("", "ConfigMap") => contents::update_config_map(&new, &old, &mut errors),
        ("", "Secret") => contents::update_secret(&new, &old, &mut errors),
        ("", "Service") => services::update(&new, &old, &mut errors),
        ("", "Endpoints") => services::endpoints(&new, &mut errors),
        ("discovery.k8s.io", "EndpointSlice") => services::update_slice(&new, &old, &mut errors),
        ("", "PersistentVolumeClaim") => claims::update(&new, &old, &mut errors),
        ("", "PersistentVolume") => claims::update_volume(&new, &old, &mut errors),
        ("storage.k8s.io", "StorageClass") => {
            claims::create_class(&new, &mut errors);
            claims::update_class(&new, &old, &mut errors);
        }
        ("apps" | "batch" | "policy", _) | ("", "ReplicationController" | "PodTemplate") => {
            workloads::update(kind, &new, &old, &mut errors);
        }
        _ => {
            cluster::update(kind, &new, &old, &mut errors);
            update_configuration(kind, &new, &old, &mut errors);
        }
    }
    errors
}

/// What is wrong with replacing `old` by `new` through `/status`.
pub fn status_update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (Place::root(new), Place::root(old));
    metadata::update(&new, &old, finalizer_names(kind), &mut errors);
    if let Some(version) = &kind.custom {
        errors.extend(version.check(new.value, Some(old.value)));
        return errors;
    }
    if custom::is_definition(kind) {
        errors.extend(custom::definition::validate_status(new.value));
        return errors;
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pods::status_update(&new, &old, &mut errors),
        ("apps", "StatefulSet") => statefulsets::status_update(&new, &old, &mut errors),
        ("", "Service") => services::status_update(&new, &mut errors),
        ("", "PersistentVolumeClaim") => claims::status_update(&new, &mut errors),
        ("", "Node") => cluster::create(kind, &new, &mut errors),
        ("certificates.k8s.io", _) => certificates::update(&new, &old, false, &mut errors),
        ("resource.k8s.io", "ResourceClaim") => devices::status_update(&new, &old, &mut errors),
        _ => workloads::status_update(kind, &new, &mut errors),
    }
    errors
}

/// What is wrong with replacing `old` by `new` through `/approval` of a CertificateSigningRequest.
pub fn approval_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (Place::root(new), Place::root(old));
    metadata::update(&new, &old, FinalizerNames::Standard, &mut errors);
    certificates::update(&new, &old, true, &mut errors);
    errors
}

/// What is wrong with replacing the ephemeral containers of a pod.
pub fn ephemeral_containers_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (Place::root(new), Place::root(old));
    metadata::update(&new, &old, FinalizerNames::Standard, &mut errors);
    pod_parts::ephemeral_containers(&new, &old, &mut errors);
    errors
}

/// What is wrong with changing what the containers of a pod ask for.
pub fn resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (Place::root(new), Place::root(old));
    metadata::update(&new, &old, FinalizerNames::Standard, &mut errors);
    pod_parts::resize(&new, &old, &mut errors);
    errors
}

/// What is wrong with changing the number of replicas through `/scale`; `scale` is the `Scale` object.
pub fn scale_update(scale: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    Place::root(scale)
        .at("spec")
        .at("replicas")
        .must_not_be_negative(&mut errors);
    errors
}

/// Texts for `Warning` headers: kinds and fields that no part of Steadfast acts on, and upstream's own warnings.
pub fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    if kind.custom.is_some() {
        return Vec::new();
    }
    if custom::is_definition(kind) {
        return custom::definition::warnings(new);
    }
    let mut texts = gaps::warnings(kind, new, old);
    texts.extend(advice::warnings(kind, new, old));
    texts
}

#[cfg(test)]
mod tests;
