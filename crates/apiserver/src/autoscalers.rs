//! HorizontalPodAutoscalers are one resource in two versions: stored as autoscaling/v2, served as v1 too.
//!
//! v1 knows one metric, the use of CPU. What else an autoscaler has stands in annotations of its v1 form, as upstream
//! has it, so that a client of v1 loses nothing when it writes back what it read.

use serde_json::{Map, Value, json};

/// (annotation, path of the list or object in v2) of what v1 has no field for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The v1 form of a v2 autoscaler.
pub(crate) fn from_v2(autoscaler: &Value) -> Value {
    let mut v1 = autoscaler.clone();
    let mut notes: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = v1["spec"].as_object_mut() {
        let (cpu, others) = split_cpu(spec.remove("metrics"));
        if let Some(metric) = cpu {
            let percent = &metric["resource"]["target"]["averageUtilization"];
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent.clone());
        }
        notes.push((METRICS, json!(others)));
        notes.extend(spec.remove("behavior").map(|behavior| (BEHAVIOR, behavior)));
    }
    if let Some(status) = v1["status"].as_object_mut() {
        let current = status.remove("currentMetrics");
        let percent = current.iter().flat_map(items).find_map(|metric| {
            let percent = &metric["resource"]["current"]["averageUtilization"];
            (metric["resource"]["name"] == "cpu" && !percent.is_null()).then(|| percent.clone())
        });
        if let Some(percent) = percent {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
        }
        status.entry("currentReplicas").or_insert(json!(0));
        notes.extend(current.map(|current| (CURRENT_METRICS, current)));
        notes.extend(status.remove("conditions").map(|conditions| (CONDITIONS, conditions)));
    }
    for (name, value) in notes {
        let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.is_null();
        if !is_empty {
            v1["metadata"]["annotations"][name] = json!(value.to_string());
        }
    }
    v1
}

/// The v2 form of a v1 autoscaler.
pub(crate) fn to_v2(autoscaler: &Value) -> Value {
    let mut v2 = autoscaler.clone();
    let mut note = |name: &str| take_note(&mut v2, name);
    let (metrics, behavior) = (note(METRICS), note(BEHAVIOR));
    let (current, conditions) = (note(CURRENT_METRICS), note(CONDITIONS));
    if let Some(spec) = v2["spec"].as_object_mut() {
        let cpu = spec.remove("targetCPUUtilizationPercentage").map(|percent| {
            json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}})
        });
        let others = metrics.iter().flat_map(items).cloned();
        let metrics: Vec<Value> = cpu.into_iter().chain(others).collect();
        if !metrics.is_empty() {
            spec.insert("metrics".to_owned(), json!(metrics));
        }
        spec.extend(behavior.map(|behavior| ("behavior".to_owned(), behavior)));
    }
    if let Some(status) = v2["status"].as_object_mut() {
        let percent = status.remove("currentCPUUtilizationPercentage");
        let current = current.or_else(|| {
            percent.map(|percent| {
                json!([{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": percent, "averageValue": "0"}}}])
            })
        });
        status.insert("currentMetrics".to_owned(), current.unwrap_or(Value::Null));
        status.extend(conditions.map(|conditions| ("conditions".to_owned(), conditions)));
        status.entry("desiredReplicas").or_insert(json!(0));
    }
    v2
}

/// The metric that v1 has a field for, and all others.
fn split_cpu(metrics: Option<Value>) -> (Option<Value>, Vec<Value>) {
    let mut others = match metrics {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    let is_cpu = |metric: &Value| {
        metric["type"] == "Resource"
            && metric["resource"]["name"] == "cpu"
            && !metric["resource"]["target"]["averageUtilization"].is_null()
    };
    let cpu = others.iter().position(is_cpu).map(|at| others.remove(at));
    (cpu, others)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Takes what an annotation holds; one that holds no JSON is dropped, as upstream drops it.
fn take_note(object: &mut Value, name: &str) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let note = annotations.remove(name)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let note: Value = serde_json::from_str(note.as_str()?).ok()?;
    let is_known = note.is_array()
        || note
            .as_object()
            .is_some_and(|fields: &Map<String, Value>| !fields.is_empty());
    is_known.then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "q"},
            "target": {"type": "AverageValue", "averageValue": "3"}}});
        let v2 = json!({
            "metadata": {"name": "a", "annotations": {"x": "y"}},
            "spec": {"maxReplicas": 3, "metrics": [cpu, pods], "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": null},
        });
        let v1 = from_v2(&v2);
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(v1["spec"]["metrics"], Value::Null);
        assert_eq!(to_v2(&v1), v2);
    }

    #[test]
    fn a_plain_autoscaler_has_no_annotations() {
        let v1 = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70},
            "status": {"currentReplicas": 0, "desiredReplicas": 0}});
        let v2 = to_v2(&v1);
        assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
        assert_eq!(from_v2(&v2), v1);
    }
}
