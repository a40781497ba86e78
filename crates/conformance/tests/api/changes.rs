//! What changes of each kind's objects do: which count as a generation, which are refused, and what a status keeps.

use crate::calls::Api;
use crate::resources::Resource;
use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// (resource, merge patch) that changes what is wished for, of kinds that count such changes.
fn spec_change(plural: &str) -> Option<Value> {
    Some(match plural {
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" | "replicationcontrollers" => {
            json!({"spec": {"minReadySeconds": 5}})
        }
        "cronjobs" => json!({"spec": {"startingDeadlineSeconds": 100}}),
        "jobs" => json!({"spec": {"activeDeadlineSeconds": 100}}),
        "poddisruptionbudgets" => json!({"spec": {"minAvailable": 2}}),
        "ingresses" => json!({"spec": {"ingressClassName": "absent"}}),
        "networkpolicies" => json!({"spec": {"policyTypes": ["Ingress", "Egress"]}}),
        "ingressclasses" => json!({"spec": {"parameters": {"kind": "Absent", "name": "p"}}}),
        "customresourcedefinitions" => json!({"spec": {"names": {"shortNames": ["wk"]}}}),
        "flowschemas" => json!({"spec": {"matchingPrecedence": 9001}}),
        "prioritylevelconfigurations" => json!({"spec": {"limited": {"nominalConcurrencyShares": 2}}}),
        "validatingadmissionpolicies" | "mutatingadmissionpolicies" => json!({"spec": {"failurePolicy": "Ignore"}}),
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => json!({"webhooks": []}),
        "endpointslices" => json!({"ports": [{"port": 81}]}),
        _ => return None,
    })
}

/// A change of the spec is a new generation; a change of the status through the main resource is none at all.
pub(crate) async fn spec(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let Some(patch) = spec_change(&resource.plural) else {
        return Ok(());
    };
    let one = resource.one(1);
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().context("no generation");
    let before = generation(&api.get(&one).await?.ok()?)?;
    let patched = api.patch(&one, "merge", &patch).await?.ok()?;
    ensure!(generation(&patched)? == before + 1, "{before} and then {patched}");
    let again = api.patch(&one, "merge", &patch).await?.ok()?;
    ensure!(
        generation(&again)? == before + 1,
        "nothing changed, but it counts: {again}"
    );
    let patch = json!({"status": {"observedGeneration": 77}});
    if resource.subresources.iter().any(|part| part == "status") && resource.plural != "ingresses" {
        let same = api.patch(&one, "merge", &patch).await?.ok()?;
        ensure!(same["status"]["observedGeneration"] != 77, "{same}");
        ensure!(generation(&same)? == before + 1, "{same}");
    }
    Ok(())
}

/// Merge patches that must be refused with 422, and the field that the answer must name.
fn forbidden_changes(plural: &str) -> Vec<(Value, &'static str)> {
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}});
    match plural {
        "deployments" | "replicasets" | "daemonsets" => vec![(selector, "spec.selector")],
        "statefulsets" => vec![(selector, "spec"), (json!({"spec": {"serviceName": "other"}}), "spec")],
        "jobs" => vec![(
            json!({"spec": {"completions": 7, "parallelism": 7}}),
            "spec.completions",
        )],
        "controllerrevisions" => vec![(json!({"data": {"a": "c"}}), "data")],
        "persistentvolumeclaims" => vec![(json!({"spec": {"accessModes": ["ReadOnlyMany"]}}), "spec")],
        "persistentvolumes" => vec![(
            json!({"spec": {"hostPath": {"path": "/other"}}}),
            "spec.persistentvolumesource",
        )],
        "pods" => vec![
            (json!({"spec": {"restartPolicy": "Never"}}), "spec"),
            (json!({"spec": {"nodeName": "n"}}), "spec"),
        ],
        "services" => vec![(json!({"spec": {"clusterIP": "10.96.77.77"}}), "spec.clusterIPs[0]")],
        "secrets" => vec![(json!({"type": "example.com/other"}), "type")],
        "storageclasses" => vec![
            (json!({"provisioner": "walk.example.com/other"}), "provisioner"),
            (json!({"parameters": {"a": "b"}}), "parameters"),
        ],
        "priorityclasses" => vec![(json!({"value": 8}), "value")],
        "runtimeclasses" => vec![(json!({"handler": "other"}), "handler")],
        "ingressclasses" => vec![(
            json!({"spec": {"controller": "walk.example.com/other"}}),
            "spec.controller",
        )],
        "customresourcedefinitions" => vec![(json!({"spec": {"scope": "Cluster"}}), "spec.scope")],
        "roles" | "clusterroles" => vec![(json!({"rules": [{"verbs": ["get"]}]}), "rules[0].apiGroups")],
        "rolebindings" | "clusterrolebindings" => vec![(json!({"roleRef": {"name": "edit"}}), "roleRef")],
        "endpointslices" => vec![(json!({"addressType": "IPv6"}), "addressType")],
        "volumeattachments" => vec![(json!({"spec": {"nodeName": "other"}}), "spec")],
        "csistoragecapacities" => vec![(json!({"storageClassName": "other"}), "storageClassName")],
        "volumeattributesclasses" => vec![(json!({"driverName": "other.example.com"}), "driverName")],
        "certificatesigningrequests" => vec![],
        "resourceclaims" => vec![(json!({"spec": {"devices": {"requests": []}}}), "spec")],
        "ipaddresses" => vec![(json!({"spec": {"parentRef": {"name": "other"}}}), "spec.parentRef")],
        "leases" => vec![(
            json!({"spec": {"leaseDurationSeconds": -1}}),
            "spec.leaseDurationSeconds",
        )],
        _ => vec![],
    }
}

/// What cannot change is refused, names the field, and is not stored.
pub(crate) async fn refused(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    for (patch, field) in forbidden_changes(&resource.plural) {
        let before = api.get(&one).await?.ok()?;
        let answer = api.patch(&one, "merge", &patch).await?;
        answer.fails(422, "Invalid").with_context(|| patch.to_string())?;
        let status: Value = serde_json::from_str(&answer.text)?;
        let causes = status["details"]["causes"].as_array().context("no causes")?;
        let named = causes.iter().any(|cause| cause["field"] == field);
        ensure!(named, "{field} is not named: {status}");
        ensure!(status["details"]["kind"] == resource.kind.as_str(), "{status}");
        let after = api.get(&one).await?.ok()?;
        let main = |object: &Value| {
            let mut object = object.clone();
            object["metadata"] = Value::Null;
            object["status"] = Value::Null;
            object
        };
        ensure!(
            main(&after) == main(&before) || resource.plural == "nodes",
            "{patch} is refused and stored"
        );
    }
    Ok(())
}

/// A merge patch of the status, and where a value of it is found. Controllers leave these fields as they are.
fn status_change(plural: &str) -> Option<(Value, &'static str)> {
    let condition = json!({"type": "WalkExample", "status": "True", "reason": "Walked", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = json!({"conditions": [condition]});
    Some(match plural {
        "pods"
        | "namespaces"
        | "services"
        | "persistentvolumeclaims"
        | "flowschemas"
        | "prioritylevelconfigurations"
        | "validatingadmissionpolicies" => (conditions, "/conditions/0/reason"),
        "persistentvolumes" => (json!({"message": "Walked"}), "/message"),
        "ingresses" => (
            json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
            "/loadBalancer/ingress/0/ip",
        ),
        "cronjobs" => (json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}), "/lastScheduleTime"),
        "volumeattachments" => (json!({"attached": true}), "/attached"),
        _ => return None,
    })
}

/// Kinds of whose metadata nothing can be written through the status.
const NO_NOTES: &[&str] = &[
    "flowschemas",
    "prioritylevelconfigurations",
    "validatingadmissionpolicies",
    "volumeattachments",
];

/// The status is written through its subresource: annotations go along, the spec does not, nothing counts as a generation.
pub(crate) async fn status(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let Some((patch, place)) = status_change(&resource.plural) else {
        return Ok(());
    };
    let one = resource.one(1);
    let before = api.get(&one).await?.ok()?;
    let through = json!({"metadata": {"annotations": {"walk": "status"}}, "status": patch});
    let patched = api.patch(&format!("{one}/status"), "merge", &through).await?.ok()?;
    let wanted = patch.pointer(place).context("a place in the patch")?;
    ensure!(patched["status"].pointer(place) == Some(wanted), "{patched}");
    let noted = patched["metadata"]["annotations"]["walk"] == "status";
    ensure!(noted != NO_NOTES.contains(&resource.plural.as_str()), "{patched}");
    ensure!(
        patched["metadata"]["generation"] == before["metadata"]["generation"],
        "a status is a generation"
    );
    // What main resources are sent of a status is dropped.
    let cleared = api.patch(&one, "merge", &json!({"status": null})).await?.ok()?;
    ensure!(
        cleared["status"].pointer(place) == Some(wanted),
        "the status is gone through the main resource: {cleared}"
    );
    Ok(())
}
