//! What Steadfast stores but does not act on: the one table of it, and the warnings that come of it.
//!
//! `docs/compatibility.md` says the same for people; a test holds the two together. Whoever makes a part act on a
//! field removes its row here and there.

use super::place::Place;
use crate::kinds::Kind;
use serde_json::Value;

/// The part of an object that a gap's path starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A pod's spec, its own or in a StatefulSet's template.
    PodSpec,
    /// A container of any sort, in a pod's spec.
    Container,
    /// A Service's spec.
    Service,
    /// A claim's spec, its own or in a StatefulSet's template.
    Claim,
    /// A PersistentVolume's spec.
    Volume,
    /// A StorageClass.
    Class,
}

/// Which values of a field are acted on, or need no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum But {
    /// None is.
    Nothing,
    /// These scalars are.
    Value(&'static [&'static str]),
    /// These fields of the object at the path are.
    Fields(&'static [&'static str]),
}

/// A field that is stored and nothing more.
#[derive(Clone, Copy, Debug)]
struct Gap {
    part: Part,
    /// The path from the part on; `[]` goes through all items of a list.
    path: &'static str,
    but: But,
    /// What that means, where it is more than "not acted on".
    why: &'static str,
}

const fn gap(part: Part, path: &'static str) -> Gap {
    Gap {
        part,
        path,
        but: But::Nothing,
        why: "",
    }
}

const fn gap_why(part: Part, path: &'static str, why: &'static str) -> Gap {
    Gap {
        part,
        path,
        but: But::Nothing,
        why,
    }
}

const NO_BALANCER: &str = "addresses of load balancers are given by others";

const OPTIONS: &str = "only volumes of CSI drivers are mounted with options";
const NO_LABELS: &str = "the built-in runtime gives processes no SELinux labels yet";

/// All gaps.
const GAPS: &[Gap] = &[
    Gap {
        part: Part::PodSpec,
        path: "hostUsers",
        but: But::Value(&["true"]),
        why: "",
    },
    Gap {
        part: Part::PodSpec,
        path: "os.name",
        but: But::Value(&["linux"]),
        why: "all nodes run Linux",
    },
    Gap {
        part: Part::PodSpec,
        path: "schedulerName",
        but: But::Value(&["default-scheduler"]),
        why: "Steadfast's own \
        scheduler leaves the pod to the one named",
    },
    gap(Part::PodSpec, "resourceClaims"),
    gap(Part::PodSpec, "schedulingGroup"),
    gap(Part::PodSpec, "securityContext.appArmorProfile"),
    gap(Part::PodSpec, "securityContext.seLinuxChangePolicy"),
    gap(Part::PodSpec, "securityContext.windowsOptions"),
    gap_why(Part::PodSpec, "securityContext.seLinuxOptions", NO_LABELS),
    Gap {
        part: Part::PodSpec,
        path: "volumes[]",
        but: But::Fields(&[
            "name",
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "hostPath",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ]),
        why: "the node cannot mount volumes of this type yet",
    },
    Gap {
        part: Part::PodSpec,
        path: "volumes[].projected.sources[]",
        but: But::Fields(&["configMap", "downwardAPI", "secret", "serviceAccountToken"]),
        why: "",
    },
    gap(Part::Container, "lifecycle.postStart.tcpSocket"),
    gap(Part::Container, "lifecycle.preStop.tcpSocket"),
    gap(Part::Container, "resources.claims"),
    gap(Part::Container, "securityContext.appArmorProfile"),
    gap(Part::Container, "securityContext.windowsOptions"),
    gap_why(Part::Container, "securityContext.seLinuxOptions", NO_LABELS),
    gap_why(Part::Service, "loadBalancerIP", NO_BALANCER),
    Gap {
        part: Part::Claim,
        path: "dataSource.kind",
        but: But::Value(&["PersistentVolumeClaim", "VolumeSnapshot"]),
        why: "volumes of Steadfast's own are filled from other claims and snapshots only; another program may make one",
    },
    Gap {
        part: Part::Claim,
        path: "dataSourceRef.kind",
        but: But::Value(&["PersistentVolumeClaim", "VolumeSnapshot"]),
        why: "volumes of Steadfast's own are filled from other claims and snapshots only; another program may make one",
    },
    gap(Part::Claim, "volumeAttributesClassName"),
    gap_why(Part::Volume, "mountOptions", OPTIONS),
    Gap {
        part: Part::Volume,
        path: "persistentVolumeReclaimPolicy",
        but: But::Value(&["Delete", "Retain"]),
        why: "",
    },
    gap(Part::Volume, "volumeAttributesClassName"),
    Gap {
        part: Part::Volume,
        path: "",
        but: But::Fields(&[
            "accessModes",
            "capacity",
            "claimRef",
            "csi",
            "hostPath",
            "local",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ]),
        why: "the node mounts volumes of the types hostPath, local and csi only",
    },
    gap_why(Part::Class, "mountOptions", OPTIONS),
    Gap {
        part: Part::Class,
        path: "provisioner",
        but: But::Value(&[
            "steadfast.io/local",
            "local.csi.steadfast.io",
            "kubernetes.io/no-provisioner",
        ]),
        why: "no part of Steadfast makes volumes for this provisioner; another program may",
    },
];

/// The warnings for an object: its kind's, at every write, and those of fields that this write set or changed.
pub(super) fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    if !kind.acted_on {
        return vec![format!(
            "{} is stored, but no part of Steadfast acts on it yet",
            kind.qualified_kind()
        )];
    }
    let new = Place::root(new);
    let mut found = found(kind, &new);
    if let Some(old) = old {
        let old = Place::root(old);
        let known = self::found(kind, &old);
        found.retain(|(place, _)| {
            !known
                .iter()
                .any(|(old, _)| old.path == place.path && old.value == place.value)
        });
    }
    found
        .into_iter()
        .map(|(place, why)| format!("{}: {why}", place.path))
        .collect()
}

/// Every field of the object that falls into a gap, and what that means.
fn found<'a>(kind: &Kind, object: &Place<'a>) -> Vec<(Place<'a>, &'static str)> {
    let mut found = Vec::new();
    for (part, place) in parts(kind, object) {
        for gap in GAPS.iter().filter(|gap| gap.part == part) {
            let why = if gap.why.is_empty() {
                "no part of Steadfast acts on it yet"
            } else {
                gap.why
            };
            for at in reach(vec![place.clone()], gap.path) {
                found.extend(fallen(gap.but, at).into_iter().map(|place| (place, why)));
            }
        }
    }
    found
}

/// The parts of an object that the table speaks of.
fn parts<'a>(kind: &Kind, object: &Place<'a>) -> Vec<(Part, Place<'a>)> {
    let spec = object.at("spec");
    match (kind.group, kind.kind) {
        ("", "Pod") => pod_parts(spec),
        ("apps", "StatefulSet") => {
            let mut parts = pod_parts(spec.at("template").at("spec"));
            let claims = spec.at("volumeClaimTemplates");
            parts.extend(claims.items().map(|claim| (Part::Claim, claim.at("spec"))));
            parts
        }
        ("apps" | "batch", "Deployment" | "ReplicaSet" | "DaemonSet" | "Job") | ("", "ReplicationController") => {
            pod_parts(spec.at("template").at("spec"))
        }
        ("batch", "CronJob") => pod_parts(spec.at("jobTemplate").at("spec").at("template").at("spec")),
        ("", "Service") => vec![(Part::Service, spec)],
        ("", "PersistentVolumeClaim") => vec![(Part::Claim, spec)],
        ("", "PersistentVolume") => vec![(Part::Volume, spec)],
        ("storage.k8s.io", "StorageClass") => vec![(Part::Class, object.clone())],
        _ => Vec::new(),
    }
}

fn pod_parts(spec: Place<'_>) -> Vec<(Part, Place<'_>)> {
    let mut parts: Vec<_> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| {
            spec.at(list)
                .items()
                .map(|container| (Part::Container, container))
                .collect::<Vec<_>>()
        })
        .collect();
    parts.insert(0, (Part::PodSpec, spec));
    parts
}

/// All that a path leads to.
fn reach<'a>(from: Vec<Place<'a>>, path: &str) -> Vec<Place<'a>> {
    let mut places = from;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (field, is_list) = step.strip_suffix("[]").map_or((step, false), |field| (field, true));
        places = places
            .iter()
            .map(|place| place.at(field))
            .filter(Place::is_set)
            .collect();
        if is_list {
            places = places
                .iter()
                .flat_map(|place| place.items().collect::<Vec<_>>())
                .collect();
        }
    }
    places
}

/// What of a place is not acted on.
fn fallen(but: But, place: Place<'_>) -> Vec<Place<'_>> {
    match but {
        But::Nothing => vec![place],
        But::Value(values) => {
            let text = place
                .value
                .as_str()
                .map_or_else(|| place.value.to_string(), str::to_owned);
            if values.contains(&text.as_str()) {
                Vec::new()
            } else {
                vec![place]
            }
        }
        But::Fields(fields) => {
            let others = place
                .value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(field, _)| !fields.contains(&&***field));
            others.map(|(field, _)| place.at(field)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{by_resource, kinds};
    use serde_json::json;

    const DOCUMENT: &str = include_str!("../../../../docs/compatibility.md");

    #[test]
    fn the_document_names_every_gap_and_every_kind() {
        for gap in GAPS {
            let path = if gap.path.is_empty() { "other types" } else { gap.path };
            assert!(
                DOCUMENT.contains(&format!("`{path}`")) || gap.path.is_empty(),
                "{:?} {path}",
                gap.part
            );
        }
        for kind in kinds() {
            let row = format!("| {} | {} |", kind.kind, kind.api_version());
            let line = DOCUMENT.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("no row for {}", kind.qualified_kind()));
            assert_eq!(line.contains("| stored only |"), !kind.acted_on, "{line}");
        }
    }

    #[test]
    fn a_kind_not_acted_on_warns_at_every_write() {
        let templates = by_resource("", "v1", "podtemplates").unwrap();
        let expected = ["PodTemplate is stored, but no part of Steadfast acts on it yet"];
        let object = json!({});
        assert_eq!(warnings(templates, &object, None), expected);
        assert_eq!(warnings(templates, &object, Some(&object)), expected);
    }

    #[test]
    fn fields_warn_with_their_paths_when_they_are_set_or_changed() {
        let sets = by_resource("apps", "v1", "statefulsets").unwrap();
        let set = json!({"spec": {
            "template": {"spec": {
                "hostUsers": false, "serviceAccountName": "default", "schedulerName": "default-scheduler",
                "containers": [{"resources": {"limits": {"cpu": "1"}, "claims": [{"name": "gpu"}]}}],
                "volumes": [{"name": "a", "csi": {"driver": "d"}}, {"name": "b", "nfs": {"server": "s", "path": "/"}}],
            }},
            "volumeClaimTemplates": [{"spec": {"dataSource": {"kind": "Other", "name": "s"}}}],
        }});
        assert_eq!(
            warnings(sets, &set, None),
            [
                "spec.template.spec.hostUsers: no part of Steadfast acts on it yet",
                "spec.template.spec.volumes[1].nfs: the node cannot mount volumes of this type yet",
                "spec.template.spec.containers[0].resources.claims: no part of Steadfast acts on it yet",
                "spec.volumeClaimTemplates[0].spec.dataSource.kind: volumes of Steadfast's own are filled from other claims and snapshots only; another program may make one",
            ]
        );
        let mut scaled = set.clone();
        scaled["spec"]["replicas"] = json!(3);
        assert_eq!(warnings(sets, &scaled, Some(&set)), [""; 0]);
        scaled["spec"]["template"]["spec"]["securityContext"] = json!({"seLinuxChangePolicy": "MountOption"});
        assert_eq!(warnings(sets, &scaled, Some(&set)).len(), 1);
    }

    #[test]
    fn foreign_volumes_and_classes_warn() {
        let volumes = by_resource("", "v1", "persistentvolumes").unwrap();
        let volume = json!({"spec": {"nfs": {}, "capacity": {}, "persistentVolumeReclaimPolicy": "Retain"}});
        assert_eq!(warnings(volumes, &volume, None).len(), 1);
        let classes = by_resource("storage.k8s.io", "v1", "storageclasses").unwrap();
        assert_eq!(
            warnings(classes, &json!({"provisioner": "steadfast.io/local"}), None),
            [""; 0]
        );
        assert_eq!(
            warnings(classes, &json!({"provisioner": "ebs.csi.aws.com"}), None).len(),
            1
        );
    }
}
