//! Upstream's own warnings: what is valid, but probably not meant.

use super::names;
use super::place::Place;
use crate::kinds::Kind;
use serde_json::Value;
use std::collections::BTreeMap;

/// The warnings for a new or changed object.
pub(super) fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = of(kind, &Place::root(new));
    if let Some(old) = old {
        // What people were told when they wrote it they need not hear again at every scaling.
        let known = of(kind, &Place::root(old));
        all.retain(|text| !known.contains(text));
    }
    all
}

fn of(kind: &Kind, object: &Place<'_>) -> Vec<String> {
    let spec = object.at("spec");
    let mut texts = Vec::new();
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            let name = object.at("metadata").at("name").text();
            let errors = if name.is_empty() {
                Vec::new()
            } else {
                names::label_errors(name)
            };
            if !errors.is_empty() {
                texts.push(format!(
                    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
                     label is recommended: {errors:?}"
                ));
            }
            pod(&spec, &mut texts);
        }
        ("apps", "StatefulSet") => {
            pod(&spec.at("template").at("spec"), &mut texts);
            if spec.at("revisionHistoryLimit").number().is_some_and(|limit| limit < 0) {
                texts.push(
                    "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                     recommended"
                        .to_owned(),
                );
            }
            for claim in spec.at("volumeClaimTemplates").items() {
                self::claim(&claim.at("spec"), &mut texts);
            }
        }
        ("", "PersistentVolumeClaim") => claim(&spec, &mut texts),
        _ => {}
    }
    texts
}

fn pod(spec: &Place<'_>, texts: &mut Vec<String>) {
    for list in ["initContainers", "containers"] {
        for container in spec.at(list).items() {
            hidden_variables(&container.at("env"), texts);
            double_ports(&container.at("ports"), texts);
        }
    }
    for claim in spec
        .at("volumes")
        .items()
        .map(|volume| volume.at("ephemeral").at("volumeClaimTemplate"))
    {
        self::claim(&claim.at("spec"), texts);
    }
}

fn hidden_variables(env: &Place<'_>, texts: &mut Vec<String>) {
    let mut seen = BTreeMap::new();
    for variable in env.items() {
        let name = variable.at("name").text();
        // A later value may refer to the earlier one of the same name; then nothing is hidden.
        let refers = variable.at("value").text().contains(&format!("$({name})"));
        if seen.insert(name, ()).is_some() && !refers {
            let why = "hides previous definition of";
            texts.push(format!(
                "{}: {why} {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}

fn double_ports(ports: &Place<'_>, texts: &mut Vec<String>) {
    let mut seen: BTreeMap<(Option<i64>, &str, Option<i64>), String> = BTreeMap::new();
    for port in ports.items() {
        let key = (
            port.at("containerPort").number(),
            port.at("protocol").text(),
            port.at("hostPort").number(),
        );
        match seen.get(&key) {
            Some(first) => texts.push(format!("{}: duplicate port definition with {first}", port.path)),
            None => {
                seen.insert(key, port.path);
            }
        }
    }
}

/// A volume has a whole number of bytes.
fn claim(spec: &Place<'_>, texts: &mut Vec<String>) {
    const NANOS: i128 = 1_000_000_000;
    for list in ["requests", "limits"] {
        let storage = spec.at("resources").at(list).key("storage");
        if storage.quantity().is_some_and(|amount| amount.nanos % NANOS != 0) {
            let value = storage.text();
            texts.push(format!(
                "{}: fractional byte value {value:?} is invalid, must be an integer",
                storage.path
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_resource;
    use serde_json::json;

    #[test]
    fn what_is_probably_not_meant() {
        let pods = by_resource("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "a.b"}, "spec": {"containers": [{
            "env": [{"name": "A"}, {"name": "A"}, {"name": "A", "value": "$(A)x"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
        }]}});
        let texts = warnings(pods, &pod, None);
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].starts_with("metadata.name: this is used in the Pod's hostname"));
        assert_eq!(
            texts[1],
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"
        );
        assert_eq!(
            texts[2],
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"
        );
        assert_eq!(warnings(pods, &pod, Some(&pod)), [""; 0]);
    }

    #[test]
    fn a_claim_of_half_a_byte() {
        let claims = by_resource("", "v1", "persistentvolumeclaims").unwrap();
        let claim = json!({"spec": {"resources": {"requests": {"storage": "500m"}}}});
        assert_eq!(
            warnings(claims, &claim, None),
            ["spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer"]
        );
    }
}
