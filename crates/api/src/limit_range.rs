//! What a LimitRange gives to containers that say nothing, and what it refuses.

use crate::quantity::Amount;
use crate::quota::{self, ResourceList};
use serde_json::{Value, json};

/// Tells people which amounts are not the author's.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives a pod's containers the requests and limits that a range has for those that name none.
pub fn fill(range: &Value, pod: &mut Value) {
    let defaults = |field: &str| {
        let mut defaults = ResourceList::new();
        for item in items(range).filter(|item| item["type"] == "Container") {
            defaults.extend(quota::hard(&item[field]));
        }
        defaults
    };
    let (requests, limits) = (defaults("defaultRequest"), defaults("default"));
    let mut said = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults, word) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill_list(container, field, defaults);
                if !set.is_empty() {
                    said.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = json!(text);
    }
}

/// Fills one resource list of a container; the names of what was absent.
fn fill_list(container: &mut Value, field: &str, defaults: &ResourceList) -> Vec<String> {
    let absent = |name: &&String| container["resources"][field][name.as_str()].is_null();
    let set: Vec<String> = defaults.keys().filter(absent).cloned().collect();
    for name in &set {
        container["resources"][field][name] = json!(defaults[name].to_string());
    }
    set
}

/// What a range does not allow of a pod (`plural` is `pods`) or a claim, in upstream's words. What a change leaves as
/// it is was allowed before.
pub fn violations(range: &Value, plural: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for item in items(range) {
        let measure = |object: &Value| measured(item, plural, object);
        let before = old.map(measure).unwrap_or_default();
        for asked in measure(object) {
            let was = before.iter().find(|was| was.of == asked.of);
            check(item, &asked, was, &mut found);
        }
    }
    found
}

/// The requests and limits of something that a range's item is about.
#[derive(Debug)]
struct Asked {
    /// The container's name; empty for a pod or a claim.
    of: String,
    requests: ResourceList,
    limits: ResourceList,
}

fn measured(item: &Value, plural: &str, object: &Value) -> Vec<Asked> {
    let asked = |of: &str, resources: &Value| Asked {
        of: of.to_owned(),
        requests: quota::hard(&resources["requests"]),
        limits: quota::hard(&resources["limits"]),
    };
    match (item["type"].as_str(), plural) {
        (Some("Container"), "pods") => ["containers", "initContainers"]
            .iter()
            .flat_map(|list| object["spec"][*list].as_array().into_iter().flatten())
            .map(|container| asked(container["name"].as_str().unwrap_or_default(), &container["resources"]))
            .collect(),
        (Some("Pod"), "pods") => vec![Asked {
            of: String::new(),
            requests: quota::asked_by_pod(object, "requests"),
            limits: quota::asked_by_pod(object, "limits"),
        }],
        (Some("PersistentVolumeClaim"), "persistentvolumeclaims") => vec![asked("", &object["spec"]["resources"])],
        _ => Vec::new(),
    }
}

fn check(item: &Value, asked: &Asked, was: Option<&Asked>, found: &mut Vec<String>) {
    let is_claim = item["type"] == "PersistentVolumeClaim";
    let per = item["type"].as_str().unwrap_or_default();
    let is_unchanged = |name: &String| {
        was.is_some_and(|was| {
            was.requests.get(name) == asked.requests.get(name) && was.limits.get(name) == asked.limits.get(name)
        })
    };
    let constraints = |field: &str| {
        let list = quota::hard(&item[field]).into_iter();
        list.filter(|(name, _)| !is_unchanged(name)).collect::<ResourceList>()
    };
    for (name, bound) in constraints("min") {
        let limit = asked.limits.get(&name).filter(|_| !is_claim);
        found.extend(too_small(&name, per, bound, asked.requests.get(&name), limit));
    }
    for (name, bound) in constraints("max") {
        let request = asked.requests.get(&name);
        found.extend(if is_claim {
            too_large_request(&name, per, bound, request)
        } else {
            too_large(&name, per, bound, request, asked.limits.get(&name))
        });
    }
    if !is_claim {
        for (name, bound) in constraints("maxLimitRequestRatio") {
            let (request, limit) = (asked.requests.get(&name), asked.limits.get(&name));
            found.extend(too_far_apart(&name, per, bound, request, limit));
        }
    }
}

fn too_small(name: &str, per: &str, min: Amount, request: Option<&Amount>, limit: Option<&Amount>) -> Option<String> {
    let rule = format!("minimum {name} usage per {per} is {min}");
    let Some(request) = request else {
        return Some(format!("{rule}.  No request is specified"));
    };
    if request.quantity < min.quantity {
        return Some(format!("{rule}, but request is {request}"));
    }
    let limit = limit.filter(|limit| limit.quantity < min.quantity)?;
    Some(format!("{rule}, but limit is {limit}"))
}

fn too_large(name: &str, per: &str, max: Amount, request: Option<&Amount>, limit: Option<&Amount>) -> Option<String> {
    let rule = format!("maximum {name} usage per {per} is {max}");
    let Some(limit) = limit else {
        return Some(format!("{rule}.  No limit is specified"));
    };
    if limit.quantity > max.quantity {
        return Some(format!("{rule}, but limit is {limit}"));
    }
    let request = request.filter(|request| request.quantity > max.quantity)?;
    Some(format!("{rule}, but request is {request}"))
}

fn too_large_request(name: &str, per: &str, max: Amount, request: Option<&Amount>) -> Option<String> {
    let rule = format!("maximum {name} usage per {per} is {max}");
    match request {
        None => Some(format!("{rule}.  No request is specified")),
        Some(request) if request.quantity > max.quantity => Some(format!("{rule}, but request is {request}")),
        Some(_) => None,
    }
}

fn too_far_apart(
    name: &str,
    per: &str,
    most: Amount,
    request: Option<&Amount>,
    limit: Option<&Amount>,
) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {per} is {most}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio for people; upstream compares floats, too"
    )]
    let ratio = limit.quantity.nanos as f64 / request.quantity.nanos as f64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let allowed = most.quantity.nanos as f64 / 1e9;
    (ratio > allowed).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
}

fn items(range: &Value) -> impl Iterator<Item = &Value> {
    range["spec"]["limits"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(item: Value) -> Value {
        json!({"spec": {"limits": [item]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn containers_get_what_they_do_not_name() {
        let range = range(
            json!({"type": "Container", "default": {"cpu": "500m", "memory": "500Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "200Mi"}}),
        );
        let mut given = pod(json!({"limits": {"cpu": "300m"}, "requests": {"cpu": "300m"}}));
        fill(&range, &mut given);
        let container = &given["spec"]["containers"][0]["resources"];
        assert_eq!(
            container,
            &json!({"limits": {"cpu": "300m", "memory": "500Mi"}, "requests": {"cpu": "300m", "memory": "200Mi"}})
        );
        assert_eq!(
            given["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; memory limit for container c"
        );
        let once = given.clone();
        fill(&range, &mut given);
        assert_eq!(given, once);
    }

    #[test]
    fn amounts_outside_the_range_are_refused() {
        let check = |item: Value, plural: &str, object: &Value, expected: &[&str]| {
            assert_eq!(violations(&range(item), plural, object, None), expected);
        };
        let small = pod(json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "1"}}));
        check(
            json!({"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m", "memory": "1Gi"}}),
            "pods",
            &small,
            &[
                "minimum cpu usage per Container is 50m, but request is 10m",
                "maximum cpu usage per Container is 500m, but limit is 1",
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ],
        );
        check(
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "4"}}),
            "pods",
            &small,
            &["cpu max limit to request ratio per Pod is 4, but provided ratio is 100.000000"],
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        check(
            json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "1Gi"}}),
            "persistentvolumeclaims",
            &claim,
            &["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"],
        );
        let strict = range(json!({"type": "Container", "max": {"cpu": "1m"}}));
        assert!(violations(&strict, "pods", &small, Some(&small)).is_empty());
    }
}
