//! RuntimeClass: a pod of a class costs what the class says beyond its containers, and runs where the class can.

use super::{Operation, Review};
use crate::create::text;
use crate::status::Outcome;
use crate::stored::Stored;
use api::kinds;
use api::strategy::semantically_equal;
use serde_json::{Value, json};

const WRONG_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) async fn mutate(review: &Review<'_>, pod: &mut Value) -> Outcome<()> {
    if !review.is("", "Pod", &[Operation::Create]) {
        return Ok(());
    }
    let class = class_of(review, pod).await?;
    let overhead = &class["overhead"]["podFixed"];
    if class["overhead"].is_object() {
        if !pod["spec"]["overhead"].is_null() && !semantically_equal(&pod["spec"]["overhead"], overhead) {
            return Err(review.forbidden(pod, WRONG_OVERHEAD));
        }
        if !overhead.is_null() {
            pod["spec"]["overhead"] = overhead.clone();
        }
    }
    let placed = schedule(&mut pod["spec"], &class["scheduling"]);
    placed.map_err(|why| review.forbidden(pod, &why))
}

pub(super) async fn validate(review: &Review<'_>, pod: &Value) -> Outcome<()> {
    if !review.is("", "Pod", &[Operation::Create]) || pod["spec"]["overhead"].is_null() {
        return Ok(());
    }
    let class = class_of(review, pod).await?;
    if !class["overhead"].is_object() {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return Err(review.forbidden(pod, why));
    }
    if !semantically_equal(&pod["spec"]["overhead"], &class["overhead"]["podFixed"]) {
        return Err(review.forbidden(pod, WRONG_OVERHEAD));
    }
    Ok(())
}

/// The class that a pod names; null if it names none.
async fn class_of(review: &Review<'_>, pod: &Value) -> Outcome<Value> {
    let Some(name) = text(&pod["spec"]["runtimeClassName"]) else {
        return Ok(Value::Null);
    };
    let absent = || review.forbidden(pod, &format!("pod rejected: RuntimeClass {name:?} not found"));
    let classes = kinds::by_resource("node.k8s.io", "v1", "runtimeclasses").ok_or_else(absent)?;
    let found = review.server.read(classes, "", name).await?.ok_or_else(absent)?;
    Stored::from(&found).object(classes)
}

/// Adds to a pod's spec where its class lets it run.
fn schedule(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &spec["nodeSelector"][key];
        if !own.is_null() && own != value {
            let (value, own) = (value.as_str().unwrap_or_default(), own.as_str().unwrap_or_default());
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        spec["nodeSelector"][key] = value.clone();
    }
    if let Some(added) = scheduling["tolerations"].as_array() {
        let own = spec["tolerations"].as_array().cloned().unwrap_or_default();
        spec["tolerations"] = json!(merged([own, added.clone()].concat()));
    }
    Ok(())
}

/// Tolerations without those that another one covers.
fn merged(all: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let is_covered = kept.iter().chain(&all[index + 1..]).any(|by| covers(by, toleration));
        if !is_covered {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether whatever `inner` tolerates, `outer` does.
fn covers(outer: &Value, inner: &Value) -> bool {
    let differs = |field: &str| text(&outer[field]).is_some_and(|wanted| text(&inner[field]) != Some(wanted));
    if outer == inner {
        return true;
    }
    if differs("key") || differs("effect") {
        return false;
    }
    if outer["effect"] == "NoExecute"
        && let Some(outer_s) = outer["tolerationSeconds"].as_i64()
        && inner["tolerationSeconds"]
            .as_i64()
            .is_none_or(|inner_s| inner_s > outer_s)
    {
        return false;
    }
    match text(&outer["operator"]) {
        None | Some("Equal") => {
            matches!(text(&inner["operator"]), None | Some("Equal")) && text(&inner["value"]) == text(&outer["value"])
        }
        Some(operator) => operator == "Exists",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_adds_where_its_pods_run() {
        let scheduling = json!({"nodeSelector": {"arch": "x"}, "tolerations": [{"key": "a", "operator": "Exists"}]});
        let mut spec =
            json!({"nodeSelector": {"zone": "z"}, "tolerations": [{"key": "a", "value": "v"}, {"key": "b"}]});
        schedule(&mut spec, &scheduling).unwrap();
        assert_eq!(
            spec,
            json!({"nodeSelector": {"zone": "z", "arch": "x"},
                "tolerations": [{"key": "b"}, {"key": "a", "operator": "Exists"}]})
        );
        let mut other = json!({"nodeSelector": {"arch": "y"}});
        let why = schedule(&mut other, &scheduling).unwrap_err();
        assert_eq!(
            why,
            "conflict: runtimeClass.scheduling.nodeSelector[arch] = x; pod.spec.nodeSelector[arch] = y"
        );
    }
}
