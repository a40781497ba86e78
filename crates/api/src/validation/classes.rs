//! What valid RuntimeClasses, APIServices, VolumeAttributesClasses, CSI objects, Ingresses and NetworkPolicies are.

use super::place::{Errors, Place};
use super::{names, selectors};
use crate::error::FieldError;
use crate::kinds::Kind;

/// Most parameters of a class of volume attributes.
const PARAMETERS_MAX: usize = 512;

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    match kind.kind {
        "RuntimeClass" => runtime_class(object, errors),
        "APIService" => api_service(object, errors),
        "VolumeAttributesClass" => attributes_class(object, errors),
        "CSINode" => csi_node(object, errors),
        "CSIStorageCapacity" => {
            let class = object.at("storageClassName");
            class.must_be_named(names::subdomain_errors, errors);
            selectors::labels(&object.at("nodeTopology"), errors);
            for field in ["capacity", "maximumVolumeSize"] {
                object.at(field).must_not_be_negative_amount(errors);
            }
        }
        "CSIDriver" => {
            let modes = object.at("spec").at("volumeLifecycleModes");
            for mode in modes.items() {
                mode.must_be_one_of(&["Ephemeral", "Persistent"], errors);
            }
            let policy = object.at("spec").at("fsGroupPolicy");
            policy.must_be_one_of(&["File", "None", "ReadWriteOnceWithFSType"], errors);
        }
        "Ingress" => ingress(&object.at("spec"), errors),
        "NetworkPolicy" => network_policy(&object.at("spec"), errors),
        _ => {}
    }
}

pub(super) fn update(kind: &Kind, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    create(kind, new, errors);
    let fixed: &[&str] = match kind.kind {
        "RuntimeClass" => &["handler"],
        "CSIStorageCapacity" => &["nodeTopology", "storageClassName"],
        _ => &[],
    };
    for field in fixed {
        new.at(field).must_not_change(&old.at(field), errors);
    }
    match kind.kind {
        "CSIDriver" => {
            for field in ["attachRequired", "volumeLifecycleModes"] {
                let (now, before) = (new.at("spec").at(field), old.at("spec").at(field));
                now.must_not_change(&before, errors);
            }
        }
        "VolumeAttributesClass" => {
            for (field, why) in [
                ("driverName", "updates to driverName are forbidden."),
                ("parameters", "updates to parameters are forbidden."),
            ] {
                if new.at(field).value != old.at(field).value {
                    errors.push(new.at(field).forbidden(why));
                }
            }
        }
        "CSINode" => csi_drivers_stay(new, old, errors),
        _ => {}
    }
}

fn runtime_class(class: &Place<'_>, errors: &mut Errors) {
    class.at("handler").must_have_form(names::label_errors, errors);
    for (_, amount) in class.at("overhead").at("podFixed").entries() {
        amount.must_not_be_negative_amount(errors);
    }
    let scheduling = class.at("scheduling");
    super::metadata::labels(&scheduling.at("nodeSelector"), errors);
    for toleration in scheduling.at("tolerations").items() {
        toleration
            .at("operator")
            .must_be_one_of(&["", "Equal", "Exists"], errors);
        toleration
            .at("effect")
            .must_be_one_of(&["", "NoExecute", "NoSchedule", "PreferNoSchedule"], errors);
    }
}

fn api_service(service: &Place<'_>, errors: &mut Errors) {
    let spec = service.at("spec");
    let (group, version) = (spec.at("group"), spec.at("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    let name = service.at("metadata").at("name");
    if name.text() != wanted {
        errors.push(name.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}")));
    }
    if group.text().is_empty() {
        if version.text() != "v1" {
            errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
        }
    } else {
        group.must_have_form(names::subdomain_errors, errors);
    }
    version.must_have_form(names::label_1035_errors, errors);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        if !(1..=max).contains(&spec.at(field).number().unwrap_or(0)) {
            errors.push(spec.at(field).invalid(format!("must be positive and less than {max}")));
        }
    }
    let backend = spec.at("service");
    let insecure = spec.at("insecureSkipTLSVerify");
    let has_authority = !spec.at("caBundle").text().is_empty();
    if backend.is_set() {
        for field in ["namespace", "name"] {
            if backend.at(field).text().is_empty() {
                errors.push(backend.at(field).required(""));
            }
        }
        backend.at("port").must_be_port(errors);
        if insecure.is_true() && has_authority {
            errors.push(insecure.invalid("may not be true if caBundle is present"));
        }
    } else {
        if has_authority {
            errors.push(spec.at("caBundle").invalid("local APIServices may not have a caBundle"));
        }
        if insecure.is_true() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
    }
}

fn attributes_class(class: &Place<'_>, errors: &mut Errors) {
    class
        .at("driverName")
        .must_be_named(|text| names::subdomain_errors(&text.to_lowercase()), errors);
    let parameters = class.at("parameters");
    if parameters.len() == 0 {
        errors.push(parameters.required("must contain at least one key/value pair"));
    }
    if parameters.len() > PARAMETERS_MAX {
        errors.push(FieldError::too_long(&parameters.path, PARAMETERS_MAX));
    }
    for (key, entry) in parameters.entries() {
        if key.is_empty() {
            errors.push(FieldError::invalid(&entry.path, key, "field can not be empty."));
        }
    }
}

fn csi_node(node: &Place<'_>, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for driver in node.at("spec").at("drivers").items() {
        let name = driver.at("name");
        name.must_be_named(|text| names::subdomain_errors(&text.to_lowercase()), errors);
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        if driver.at("nodeID").text().is_empty() {
            errors.push(driver.at("nodeID").required(""));
        }
        driver.at("allocatable").at("count").must_not_be_negative(errors);
        for key in driver.at("topologyKeys").items() {
            key.must_be_named(names::qualified_name_errors, errors);
        }
    }
}

/// A driver that stays keeps its node id and topology keys.
fn csi_drivers_stay(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    for driver in new.at("spec").at("drivers").items() {
        let before = old.at("spec").at("drivers");
        let before = before
            .items()
            .find(|before| before.at("name").text() == driver.at("name").text());
        for field in ["nodeID", "topologyKeys"] {
            if let Some(before) = &before {
                driver.at(field).must_not_change(&before.at(field), errors);
            }
        }
    }
}

fn ingress(spec: &Place<'_>, errors: &mut Errors) {
    let (rules, fallback) = (spec.at("rules"), spec.at("defaultBackend"));
    if rules.len() == 0 && !fallback.is_set() {
        errors.push(spec.invalid("either `defaultBackend` or `rules` must be specified"));
    }
    if fallback.is_set() {
        ingress_backend(&fallback, errors);
    }
    for rule in rules.items() {
        let host = rule.at("host");
        let bare = host.text().strip_prefix("*.").unwrap_or(host.text());
        if !bare.is_empty() {
            for why in names::subdomain_errors(bare) {
                errors.push(host.invalid(why));
            }
        }
        let http = rule.at("http");
        if http.is_set() && http.at("paths").len() == 0 {
            errors.push(http.at("paths").required(""));
        }
        for path in http.at("paths").items() {
            ingress_path(&path, errors);
        }
    }
    let class = spec.at("ingressClassName");
    if class.is_set() {
        class.must_have_form(names::subdomain_errors, errors);
    }
}

fn ingress_path(path: &Place<'_>, errors: &mut Errors) {
    let (sort, text) = (path.at("pathType"), path.at("path"));
    if sort.is_set() {
        sort.must_be_one_of(&["Exact", "ImplementationSpecific", "Prefix"], errors);
    } else {
        errors.push(sort.required("pathType must be specified"));
    }
    let must_begin = sort.text() != "ImplementationSpecific" || !text.text().is_empty();
    if must_begin && !text.text().starts_with('/') {
        errors.push(text.invalid("must be an absolute path"));
    }
    ingress_backend(&path.at("backend"), errors);
}

fn ingress_backend(backend: &Place<'_>, errors: &mut Errors) {
    let (service, resource) = (backend.at("service"), backend.at("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(backend.invalid("cannot set both resource and service backends")),
        (false, false) => errors.push(backend.required("")),
        (false, true) => {}
        (true, false) => {
            service.at("name").must_be_named(names::label_1035_errors, errors);
            let port = service.at("port");
            let (name, number) = (port.at("name"), port.at("number"));
            match (name.text().is_empty(), number.number().unwrap_or(0)) {
                (true, 0) => errors.push(port.required("port name or number is required")),
                (false, 0) => name.must_have_form(names::port_name_errors, errors),
                (true, _) => number.must_be_port(errors),
                (false, _) => errors.push(port.invalid("cannot set both port name & port number")),
            }
        }
    }
}

fn network_policy(spec: &Place<'_>, errors: &mut Errors) {
    selectors::labels(&spec.at("podSelector"), errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.at(rules).items() {
            for port in rule.at("ports").items() {
                network_port(&port, errors);
            }
            for peer in rule.at(peers).items() {
                network_peer(&peer, errors);
            }
        }
    }
    let types = spec.at("policyTypes");
    if types.len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
    }
    for sort in types.items() {
        sort.must_be_one_of(&["Egress", "Ingress"], errors);
    }
}

fn network_port(port: &Place<'_>, errors: &mut Errors) {
    port.at("protocol").must_be_one_of(&["SCTP", "TCP", "UDP"], errors);
    let (first, last) = (port.at("port"), port.at("endPort"));
    if first.is_set() {
        first.must_be_port_or_name(errors);
    }
    if !last.is_set() {
        return;
    }
    match (first.is_set(), first.number()) {
        (false, _) => errors.push(last.invalid("may not be specified when `port` is not specified")),
        (true, None) => errors.push(last.invalid("may not be specified when `port` is non-numeric")),
        (true, Some(number)) => {
            if last.number().is_some_and(|end| end < number) {
                // Upstream shows the value of the other field.
                let shown = Place::new(first.value, last.path.clone());
                errors.push(shown.invalid("must be greater than or equal to `port`"));
            }
            last.must_be_port(errors);
        }
    }
}

fn network_peer(peer: &Place<'_>, errors: &mut Errors) {
    let (pods, namespaces, block) = (peer.at("podSelector"), peer.at("namespaceSelector"), peer.at("ipBlock"));
    selectors::labels(&pods, errors);
    selectors::labels(&namespaces, errors);
    let selects = pods.is_set() || namespaces.is_set();
    if block.is_set() {
        if selects {
            errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
        }
        let range = block.at("cidr");
        if range.text().parse::<ipnet::IpNet>().is_err() {
            errors.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    } else if !selects {
        errors.push(peer.required("must specify a peer"));
    }
}
