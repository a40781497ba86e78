//! What valid volumes of a pod are.

use super::{Volumes, environment};
use crate::error::FieldError;
use crate::validation::place::{Errors, Place};
use crate::validation::{claims, names};
use std::collections::BTreeSet;

/// Permissions of files: three octal digits.
const MODE_MAX: i64 = 0o777;

/// What is wrong with a pod's volumes; says which volumes there are.
pub(super) fn validate<'a>(volumes: &Place<'a>, errors: &mut Errors) -> Volumes<'a> {
    let mut known = Volumes::new();
    for volume in volumes.items() {
        let kind = source(&volume, errors);
        let name = volume.at("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
        } else {
            name.must_have_form(names::label_errors, errors);
        }
        if known.insert(name.text(), kind).is_some() {
            errors.push(name.duplicate());
        }
    }
    known
}

/// Exactly one source; its kind.
fn source<'a>(volume: &Place<'a>, errors: &mut Errors) -> &'a str {
    let given = volume
        .value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "name" && !value.is_null());
    let mut kinds = given.map(|(key, _)| key.as_str());
    let Some(kind) = kinds.next() else {
        errors.push(volume.required("must specify a volume type"));
        return "";
    };
    for other in kinds {
        errors.push(volume.at(other).forbidden("may not specify more than 1 volume type"));
    }
    let source = volume.at(kind);
    match kind {
        "emptyDir" => {
            let limit = source.at("sizeLimit");
            if limit.quantity().is_some_and(|amount| amount.nanos < 0) {
                errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => host_path(&source, errors),
        "configMap" => {
            named(&source.at("name"), errors);
            files(&source, "items", errors);
        }
        "secret" => {
            named(&source.at("secretName"), errors);
            files(&source, "items", errors);
        }
        "downwardAPI" => downward(&source, errors),
        "projected" => projected(&source, errors),
        "persistentVolumeClaim" => named(&source.at("claimName"), errors),
        "ephemeral" => {
            let template = source.at("volumeClaimTemplate");
            if template.is_set() {
                claims::spec(&template.at("spec"), errors);
            } else {
                errors.push(template.required(""));
            }
        }
        "nfs" => {
            named(&source.at("server"), errors);
            named(&source.at("path"), errors);
        }
        "csi" => named(&source.at("driver"), errors),
        "image" => named(&source.at("reference"), errors),
        _ => {}
    }
    kind
}

fn named(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        errors.push(name.required(""));
    }
}

/// A path of the node's own.
pub(in crate::validation) fn host_path(source: &Place<'_>, errors: &mut Errors) {
    const KINDS: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let path = source.at("path");
    if path.text().is_empty() {
        errors.push(path.required(""));
    } else if path.text().split('/').any(|part| part == "..") {
        errors.push(path.invalid("must not contain '..'"));
    }
    source.at("type").must_be_one_of(&KINDS, errors);
}

fn mode(mode: &Place<'_>, errors: &mut Errors) {
    if mode.number().is_some_and(|number| !(0..=MODE_MAX).contains(&number)) {
        errors.push(mode.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

/// Keys put into files.
fn files(source: &Place<'_>, field: &str, errors: &mut Errors) {
    mode(&source.at("defaultMode"), errors);
    for item in source.at(field).items() {
        named(&item.at("key"), errors);
        file(&item, errors);
    }
}

fn file(item: &Place<'_>, errors: &mut Errors) {
    let path = item.at("path");
    if path.text().is_empty() {
        errors.push(path.required(""));
    } else {
        relative_path(&path, errors);
        if path.text().starts_with("..") && !path.text().split('/').any(|part| part == "..") {
            errors.push(path.invalid("must not start with '..'"));
        }
    }
    mode(&item.at("mode"), errors);
}

/// A path that stays where it is put.
pub(super) fn relative_path(path: &Place<'_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        errors.push(path.invalid("must be a relative path"));
    }
    if path.text().split('/').any(|part| part == "..") {
        errors.push(path.invalid("must not contain '..'"));
    }
}

fn downward(source: &Place<'_>, errors: &mut Errors) {
    mode(&source.at("defaultMode"), errors);
    for item in source.at("items").items() {
        file(&item, errors);
        let (field, resource) = (item.at("fieldRef"), item.at("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, true) => {
                errors.push(item.invalid("fieldRef and resourceFieldRef can not be specified simultaneously"))
            }
            (true, false) => environment::field_of_file(&field, errors),
            (false, true) => {
                if resource.at("containerName").text().is_empty() {
                    errors.push(resource.at("containerName").required(""));
                }
                environment::resource(&resource, errors);
            }
            (false, false) => errors.push(item.required("one of fieldRef and resourceFieldRef is required")),
        }
    }
}

fn projected(projected: &Place<'_>, errors: &mut Errors) {
    mode(&projected.at("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for source in projected.at("sources").items() {
        let kinds: Vec<&str> = source
            .value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(kind, _)| kind.as_str())
            .collect();
        if kinds.len() > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
        }
        if kinds.is_empty() {
            errors.push(source.required("must specify a volume type"));
        }
        for kind in kinds {
            let of = source.at(kind);
            match kind {
                "configMap" | "secret" => {
                    named(&of.at("name"), errors);
                    files(&of, "items", errors);
                }
                "downwardAPI" => downward(&of, errors),
                "serviceAccountToken" => {
                    named(&of.at("path"), errors);
                    of.at("expirationSeconds").must_be_within(600, 1 << 32, errors);
                }
                _ => {}
            }
            let items = of.at("items");
            let files = items.items().map(|item| item.at("path")).chain([of.at("path")]);
            for path in files.filter(|path| !path.text().is_empty()) {
                if !paths.insert(path.text()) {
                    errors.push(FieldError::invalid(
                        &source.path,
                        path.text(),
                        "conflicting duplicate paths",
                    ));
                }
            }
        }
    }
}
