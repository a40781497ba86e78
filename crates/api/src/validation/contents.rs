//! What valid ConfigMaps, Secrets and ControllerRevisions are: objects that only carry data.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::strategy::semantically_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Most bytes of data in one object: 1 MiB.
const BYTES_MAX: usize = 1024 * 1024;

pub(super) fn config_map(map: &Place<'_>, errors: &mut Errors) {
    let (data, binary) = (map.at("data"), map.at("binaryData"));
    let mut bytes = 0;
    for (key, entry) in data.entries() {
        key_form(key, &entry.path, errors);
        if binary.key(key).is_set() {
            errors.push(FieldError::invalid(
                &entry.path,
                key,
                "duplicate of key present in binaryData",
            ));
        }
        bytes += entry.text().len();
    }
    for (key, entry) in binary.entries() {
        key_form(key, &entry.path, errors);
        bytes += decoded_len(&entry);
    }
    if bytes > BYTES_MAX {
        errors.push(FieldError::too_long("[]", BYTES_MAX));
    }
}

fn key_form(key: &str, path: &str, errors: &mut Errors) {
    for why in names::config_key_errors(key) {
        errors.push(FieldError::invalid(path, key, why));
    }
}

fn decoded_len(entry: &Place<'_>) -> usize {
    STANDARD
        .decode(entry.text())
        .map_or(entry.text().len(), |bytes| bytes.len())
}

pub(super) fn update_config_map(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    immutable(new, old, &["data", "binaryData"], errors);
    config_map(new, errors);
}

/// What is marked immutable stays so, with all it holds.
fn immutable(new: &Place<'_>, old: &Place<'_>, fields: &[&str], errors: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !old.at("immutable").is_true() {
        return;
    }
    if !new.at("immutable").is_true() {
        errors.push(new.at("immutable").forbidden(WHY));
    }
    for field in fields {
        if !semantically_equal(new.at(field).value, old.at(field).value) {
            errors.push(new.at(field).forbidden(WHY));
        }
    }
}

pub(super) fn secret(secret: &Place<'_>, errors: &mut Errors) {
    let data = secret.at("data");
    let mut bytes = 0;
    for (key, entry) in data.entries() {
        key_form(key, &entry.path, errors);
        bytes += decoded_len(&entry);
    }
    if bytes > BYTES_MAX {
        errors.push(FieldError::too_long(&data.path, BYTES_MAX));
    }
    let mut must_have = |keys: &[&str]| {
        for key in keys {
            if !data.key(key).is_set() {
                errors.push(data.key(key).required(""));
            }
        }
    };
    match secret.at("type").text() {
        "kubernetes.io/dockercfg" => must_have(&[".dockercfg"]),
        "kubernetes.io/dockerconfigjson" => must_have(&[".dockerconfigjson"]),
        "kubernetes.io/ssh-auth" => must_have(&["ssh-privatekey"]),
        "kubernetes.io/tls" => must_have(&["tls.crt", "tls.key"]),
        "kubernetes.io/basic-auth" if !data.key("username").is_set() && !data.key("password").is_set() => {
            must_have(&["username", "password"]);
        }
        "kubernetes.io/service-account-token" => {
            let name = secret
                .at("metadata")
                .at("annotations")
                .key("kubernetes.io/service-account.name");
            if name.text().is_empty() {
                errors.push(name.required(""));
            }
        }
        _ => {}
    }
}

pub(super) fn update_secret(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    new.at("type").must_not_change(&old.at("type"), errors);
    immutable(new, old, &["data"], errors);
    secret(new, errors);
}

pub(super) fn revision(revision: &Place<'_>, errors: &mut Errors) {
    let data = revision.at("data");
    if !data.is_set() {
        errors.push(data.required("data is mandatory"));
    } else if !data.value.is_object() {
        errors.push(data.invalid("data must be a valid JSON object"));
    }
    revision.at("revision").must_not_be_negative(errors);
}

pub(super) fn update_revision(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    revision(new, errors);
    new.at("data").must_not_change(&old.at("data"), errors);
}
