//! Priority: a pod's class becomes its number; one class at most is the default; the system's classes stay.

use super::{Operation, Review, kind};
use crate::create::text;
use crate::status::Outcome;
use crate::stored::Stored;
use serde_json::{Value, json};

/// Classes that every cluster has.
const SYSTEM_CLASSES: &[&str] = &["system-node-critical", "system-cluster-critical"];

pub(super) async fn mutate(review: &Review<'_>, pod: &mut Value) -> Outcome<()> {
    if let Some(old) = review.old.filter(|_| review.is("", "Pod", &[Operation::Update])) {
        // What was computed once stays; validation refuses whoever says otherwise.
        for field in ["priority", "preemptionPolicy"] {
            if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
                pod["spec"][field] = old["spec"][field].clone();
            }
        }
    }
    if !review.is("", "Pod", &[Operation::Create]) {
        return Ok(());
    }
    let class = class_of(review, pod).await?;
    let value = class["value"].as_i64().unwrap_or(0);
    let policy = text(&class["preemptionPolicy"]).unwrap_or("PreemptLowerPriority");
    let spec = &pod["spec"];
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(review.forbidden(pod, &why));
    }
    if let Some(given) = text(&spec["preemptionPolicy"]).filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(review.forbidden(pod, &why));
    }
    let spec = &mut pod["spec"];
    if let Some(name) = text(&class["metadata"]["name"]) {
        spec["priorityClassName"] = json!(name);
    }
    spec["priority"] = json!(value);
    spec["preemptionPolicy"] = json!(policy);
    Ok(())
}

pub(super) async fn validate(review: &Review<'_>, class: &Value) -> Outcome<()> {
    let name = class["metadata"]["name"].as_str().unwrap_or_default();
    let group = "scheduling.k8s.io";
    if review.is(group, "PriorityClass", &[Operation::Delete]) && SYSTEM_CLASSES.contains(&name) {
        return Err(review.forbidden(class, "this is a system priority class and cannot be deleted"));
    }
    if !review.is(group, "PriorityClass", &[Operation::Create, Operation::Update]) || class["globalDefault"] != true {
        return Ok(());
    }
    let Some(default) = default_class(review).await? else {
        return Ok(());
    };
    let its_name = default["metadata"]["name"].as_str().unwrap_or_default();
    if its_name == name {
        return Ok(());
    }
    let why = format!("PriorityClass {its_name} is already marked as default. Only one default can exist");
    Err(review.forbidden(class, &why))
}

/// The class that a pod names, or else the default one; null if there is none.
async fn class_of(review: &Review<'_>, pod: &Value) -> Outcome<Value> {
    let Some(name) = text(&pod["spec"]["priorityClassName"]) else {
        return Ok(default_class(review).await?.unwrap_or_default());
    };
    let classes = kind("scheduling.k8s.io", "priorityclasses");
    match review.server.read(classes, "", name).await? {
        Some(kv) => Stored::from(&kv).object(classes),
        None => Err(review.forbidden(pod, &format!("no PriorityClass with name {name} was found"))),
    }
}

/// The class of pods that name none. Of several (which only older writes can have left) the lowest.
async fn default_class(review: &Review<'_>) -> Outcome<Option<Value>> {
    let classes = kind("scheduling.k8s.io", "priorityclasses");
    let all = review.server.read_all(classes).await?;
    let all: Vec<Value> = all.iter().map(|class| class.object(classes)).collect::<Outcome<_>>()?;
    let defaults = all.into_iter().filter(|class| class["globalDefault"] == true);
    Ok(defaults.min_by_key(|class| class["value"].as_i64()))
}
