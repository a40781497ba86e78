//! What valid security contexts are.

use crate::validation::place::{Errors, Place};

/// The largest user and group number.
const ID_MAX: i64 = i32::MAX as i64;

/// The form of a sysctl's name: segments, with dots or slashes between them.
const SYSCTL: &str = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";

const SYSCTL_BYTES_MAX: usize = 253;

fn is_sysctl_name(name: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes.iter().all(|byte| is_end(byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= SYSCTL_BYTES_MAX && name.split(['.', '/']).all(is_segment)
}

/// What is wrong with the security context of a pod.
pub(super) fn pod(context: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    ids(context, errors);
    context.at("fsGroup").must_be_within(0, ID_MAX, errors);
    for group in context.at("supplementalGroups").items() {
        group.must_be_within(0, ID_MAX, errors);
    }
    context
        .at("fsGroupChangePolicy")
        .must_be_one_of(&["Always", "OnRootMismatch"], errors);
    context
        .at("supplementalGroupsPolicy")
        .must_be_one_of(&["Merge", "Strict"], errors);
    let mut seen = std::collections::BTreeSet::new();
    for sysctl in context.at("sysctls").items() {
        let name = sysctl.at("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl_name(name.text()) {
            let why = format!("must have at most {SYSCTL_BYTES_MAX} characters and match regex ^{SYSCTL}$");
            errors.push(name.invalid(why));
        } else if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    profiles(context, errors);
    if spec.at("shareProcessNamespace").is_true() && spec.at("hostPID").is_true() {
        errors.push(
            spec.at("shareProcessNamespace")
                .invalid("ShareProcessNamespace and HostPID cannot both be enabled"),
        );
    }
}

/// What is wrong with the security context of a container.
pub(super) fn container(context: &Place<'_>, errors: &mut Errors) {
    ids(context, errors);
    profiles(context, errors);
    context.at("procMount").must_be_one_of(&["Default", "Unmasked"], errors);
    let escalation = context.at("allowPrivilegeEscalation");
    if escalation.value == &serde_json::Value::Bool(false) {
        if context.at("privileged").is_true() {
            errors.push(context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        let added = context.at("capabilities").at("add");
        if added.items().any(|capability| capability.text() == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(context.invalid(why));
        }
    }
}

fn ids(context: &Place<'_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        context.at(field).must_be_within(0, ID_MAX, errors);
    }
}

fn profiles(context: &Place<'_>, errors: &mut Errors) {
    for (field, kinds) in [
        ("seccompProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
        ("appArmorProfile", ["Localhost", "RuntimeDefault", "Unconfined"]),
    ] {
        let profile = context.at(field);
        if !profile.is_set() {
            continue;
        }
        let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
        if kind.text().is_empty() {
            errors.push(kind.required("type is required when seccompProfile is set"));
        } else {
            kind.must_be_one_of(&kinds, errors);
        }
        match (kind.text() == "Localhost", local.text().is_empty()) {
            (true, true) => errors.push(local.required("must be set when seccomp type is Localhost")),
            (false, false) => {
                errors.push(local.invalid("can only be set when seccomp type is Localhost"));
            }
            _ => {}
        }
    }
}
