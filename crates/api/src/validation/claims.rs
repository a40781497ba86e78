//! What valid claims, volumes and storage classes are.

use super::place::{Errors, Place};
use super::{names, pod_spec, selectors};
use crate::error::FieldError;
use crate::quantity::Quantity;
use crate::strategy::semantically_equal;
use serde_json::Value;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// What is wrong with the spec of a claim, on its own or in a template.
pub(super) fn spec(spec: &Place<'_>, errors: &mut Errors) {
    access_modes(&spec.at("accessModes"), "at least 1 access mode is required", errors);
    selectors::labels(&spec.at("selector"), errors);
    let storage = spec.at("resources").at("requests").key("storage");
    // Upstream's path leaves `requests` out.
    let storage = Place::new(storage.value, format!("{}[storage]", spec.at("resources").path));
    match storage.quantity() {
        None => errors.push(storage.required("")),
        Some(amount) if amount <= Quantity::default() => errors.push(storage.invalid("must be greater than zero")),
        Some(_) => {}
    }
    let class = spec.at("storageClassName");
    if !class.text().is_empty() {
        class.must_have_form(names::subdomain_errors, errors);
    }
    spec.at("volumeMode").must_be_one_of(&VOLUME_MODES, errors);
    for field in ["dataSource", "dataSourceRef"] {
        let source = spec.at(field);
        if source.is_set() {
            for part in ["name", "kind"] {
                if source.at(part).text().is_empty() {
                    errors.push(source.at(part).required(""));
                }
            }
        }
    }
}

fn access_modes(modes: &Place<'_>, none: &str, errors: &mut Errors) {
    if modes.len() == 0 {
        errors.push(modes.required(none));
    }
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.push(FieldError::not_supported(&modes.path, mode.text(), &ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.items().any(|mode| mode.text() == "ReadWriteOncePod") {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

pub(super) fn create(claim: &Place<'_>, errors: &mut Errors) {
    spec(&claim.at("spec"), errors);
}

/// A claim may be bound once, given a class if it had none, and grown once it is bound.
pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    self::spec(&spec, errors);
    let is_bound = old.at("status").at("phase").text() == "Bound";
    let mut free = vec![];
    if old_spec.at("volumeName").text().is_empty() {
        free.push("volumeName");
    }
    if !old_spec.at("storageClassName").is_set() && !is_bound {
        free.push("storageClassName");
    }
    if is_bound {
        free.push("volumeAttributesClassName");
    }
    let rest = |spec: &Value| {
        let mut rest = spec.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.retain(|field, _| !free.contains(&field.as_str()));
            if is_bound && let Some(resources) = fields.get_mut("resources").and_then(Value::as_object_mut) {
                resources.remove("requests");
            }
        }
        rest
    };
    if !semantically_equal(&rest(spec.value), &rest(old_spec.value)) {
        errors.push(spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let size = |claim: &Place<'_>| claim.at("spec").at("resources").at("requests").at("storage").quantity();
    let capacity = new.at("status").at("capacity").at("storage").quantity();
    if is_bound && size(new) < size(old) && size(new) < capacity.or(size(old)) {
        let path = "spec.resources.requests.storage";
        errors.push(FieldError::forbidden(
            path,
            "field can not be less than status.capacity",
        ));
    }
}

pub(super) fn status_update(new: &Place<'_>, errors: &mut Errors) {
    let status = new.at("status");
    for mode in status.at("accessModes").items() {
        mode.must_be_one_of(&ACCESS_MODES, errors);
    }
    for (_, amount) in status.at("capacity").entries() {
        amount.must_not_be_negative_amount(errors);
    }
}

/// The fields of a volume's spec that are no source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn create_volume(volume: &Place<'_>, errors: &mut Errors) {
    let spec = volume.at("spec");
    access_modes(&spec.at("accessModes"), "", errors);
    let capacity = spec.at("capacity");
    if capacity.len() == 0 {
        errors.push(capacity.required(""));
    } else if !capacity.key("storage").is_set() || capacity.len() > 1 {
        let given: Vec<&str> = capacity.entries().map(|(name, _)| name).collect();
        errors.push(FieldError::not_supported(
            &capacity.path,
            serde_json::json!(given),
            &["storage"],
        ));
    }
    for (_, amount) in capacity.entries() {
        if amount.quantity().is_some_and(|amount| amount <= Quantity::default()) {
            errors.push(amount.invalid("must be greater than zero"));
        }
    }
    spec.at("persistentVolumeReclaimPolicy")
        .must_be_one_of(&["Delete", "Recycle", "Retain"], errors);
    source(&spec, errors);
    let required = spec.at("nodeAffinity").at("required");
    if required.is_set() {
        pod_spec::node_selector(&required, errors);
    } else if spec.at("nodeAffinity").is_set() {
        errors.push(required.required("must specify required node constraints"));
    }
    let class = spec.at("storageClassName");
    if !class.text().is_empty() {
        class.must_have_form(names::subdomain_errors, errors);
    }
    spec.at("volumeMode").must_be_one_of(&VOLUME_MODES, errors);
}

fn source(spec: &Place<'_>, errors: &mut Errors) {
    let fields = spec.value.as_object().into_iter().flatten();
    let mut kinds = fields
        .filter(|(field, value)| !NO_SOURCE.contains(&field.as_str()) && !value.is_null())
        .map(|(field, _)| field);
    let Some(kind) = kinds.next() else {
        errors.push(spec.required("must specify a volume type"));
        return;
    };
    for other in kinds {
        errors.push(spec.at(other).forbidden("may not specify more than 1 volume type"));
    }
    let source = spec.at(kind);
    match kind.as_str() {
        "hostPath" => pod_spec::host_path(&source, errors),
        "local" => {
            if source.at("path").text().is_empty() {
                errors.push(source.at("path").required(""));
            }
            if !spec.at("nodeAffinity").is_set() {
                errors.push(spec.at("nodeAffinity").required("Local volume requires node affinity"));
            }
        }
        "csi" => {
            for field in ["driver", "volumeHandle"] {
                if source.at(field).text().is_empty() {
                    errors.push(source.at(field).required(""));
                }
            }
        }
        _ => {}
    }
}

pub(super) fn update_volume(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    create_volume(new, errors);
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let source = |spec: &Value| {
        let mut source = spec.clone();
        if let Some(fields) = source.as_object_mut() {
            fields.retain(|field, _| !NO_SOURCE.contains(&field.as_str()));
        }
        source
    };
    if !semantically_equal(&source(spec.value), &source(old_spec.value)) {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    spec.at("volumeMode")
        .must_not_change(&old_spec.at("volumeMode"), errors);
    if old_spec.at("nodeAffinity").is_set() {
        spec.at("nodeAffinity")
            .must_not_change(&old_spec.at("nodeAffinity"), errors);
    }
}

pub(super) fn create_class(class: &Place<'_>, errors: &mut Errors) {
    class
        .at("provisioner")
        .must_be_named(|name| names::qualified_name_errors(&name.to_lowercase()), errors);
    let parameters = class.at("parameters");
    for (key, entry) in parameters.entries() {
        if key.is_empty() {
            errors.push(FieldError::invalid(&entry.path, "", "field can not be empty."));
        }
    }
    class.at("reclaimPolicy").must_be_one_of(&["Delete", "Retain"], errors);
    class
        .at("volumeBindingMode")
        .must_be_given_of(&["Immediate", "WaitForFirstConsumer"], errors);
}

pub(super) fn update_class(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    for (field, why) in [
        ("parameters", "updates to parameters are forbidden."),
        ("provisioner", "updates to provisioner are forbidden."),
        ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
    ] {
        if !semantically_equal(new.at(field).value, old.at(field).value) {
            errors.push(new.at(field).forbidden(why));
        }
    }
    new.at("volumeBindingMode")
        .must_not_change(&old.at("volumeBindingMode"), errors);
}
