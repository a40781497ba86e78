//! Eviction: a delete that asks the disruption budgets first.
//!
//! The budget pays for the disruption in the same transaction that deletes the pod: neither can two evictions spend the
//! last one, nor is one spent on a pod that stays.

use crate::admission::node_restriction::check_eviction;
use crate::admission::{Operation, sent, validate_sent};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::commit::Change;
use crate::create::text;
use crate::delete::{Cause, DeleteOptions, remove_because};
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, status};
use crate::stored::Stored;
use api::error::Status;
use api::selector::LabelSelector;
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use store::KeyValue;

/// Evictions that the budget's controller may not have noticed yet; upstream's figure.
const DISRUPTED_PODS_MAX: usize = 2000;

/// When to ask again while a budget is being counted.
const RETRY_AFTER_S: u32 = 10;

const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// POST to `pods/NAME/eviction`.
pub(crate) async fn evict(server: &Arc<Server>, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let eviction: Value = serde_json::from_slice(&text).map_err(|error| {
        bad_request(format!(
            "Eviction in version \"v1\" cannot be handled as a Eviction: {error}"
        ))
    })?;
    let name = eviction["metadata"]["name"].as_str().unwrap_or(&call.name);
    if name != call.name {
        return Err(bad_request("name in URL does not match name in Eviction object"));
    }
    let pod = server.existing(&call.kind, &call.namespace, &call.name).await?;
    check_eviction(&call.user, &Stored::from(&pod).object(&call.kind)?)?;
    validate_sent(
        server,
        call,
        Operation::Create,
        &sent(&eviction, "policy/v1", "Eviction"),
    )
    .await?;
    let mut options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    if call.write.dry_run {
        options.only_try();
    }
    remove_because(server, call, &call.name, &options, Cause::Eviction).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::value(call, StatusCode::CREATED, &success)
}

/// Lets the pod's budget pay for its eviction, and tells its node why it ends.
pub(crate) async fn disrupt(server: &Server, call: &Call, pod: &mut Value, change: &mut Change) -> Outcome<()> {
    let has_ended = matches!(text(&pod["status"]["phase"]), Some("Succeeded" | "Failed"));
    let is_leaving = !pod["metadata"]["deletionTimestamp"].is_null();
    // Whose end disrupts nothing needs no budget.
    if has_ended || is_leaving {
        return Ok(());
    }
    if pod["status"]["phase"] != "Pending"
        && let Some(kv) = budget_of(server, call, pod).await?
    {
        spend(call, pod, &kv, change)?;
    }
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": clock::now_text()});
    set_condition(&mut pod["status"], condition);
    Ok(())
}

/// The budget that selects a pod.
async fn budget_of(server: &Server, call: &Call, pod: &Value) -> Outcome<Option<Arc<KeyValue>>> {
    let budgets = crate::admission::kind("policy", "poddisruptionbudgets");
    let mut found = Vec::new();
    for kv in server.read_namespace(budgets, &call.namespace).await? {
        let budget = Stored::from(&kv).object(budgets)?;
        // No selector selects nothing, as does one that cannot be read; an empty one selects all.
        let selector = match &budget["spec"]["selector"] {
            Value::Null => LabelSelector::nothing(),
            selector => LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        if selector.matches(&pod["metadata"]["labels"]) {
            found.push(kv);
        }
    }
    if found.len() > 1 {
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(status(500, "", message, Value::Null));
    }
    Ok(found.pop())
}

/// Takes one disruption from a budget, unless the pod is no loss.
fn spend(call: &Call, pod: &Value, kv: &Arc<KeyValue>, change: &mut Change) -> Outcome<()> {
    let budgets = crate::admission::kind("policy", "poddisruptionbudgets");
    let mut budget = Stored::from(kv).object(budgets)?;
    if is_no_loss(pod, &budget) {
        // As long as the budget says so.
        change.require(kv.key.to_string(), kv.mod_revision);
        return Ok(());
    }
    check(&budget)?;
    let counted = &mut budget["status"];
    let left = counted["disruptionsAllowed"].as_i64().unwrap_or(0) - 1;
    counted["disruptionsAllowed"] = json!(left);
    counted["disruptedPods"][&call.name] = json!(clock::now_text());
    if left == 0 {
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "lastTransitionTime": clock::now_text(),
            "observedGeneration": counted["observedGeneration"].as_i64().unwrap_or(0)});
        set_condition(counted, condition);
    }
    change.require(kv.key.to_string(), kv.mod_revision);
    change.put(kv.key.to_string(), Stored::encode(budgets, &budget), kv.lease);
    Ok(())
}

/// Whether a pod does not count as healthy and may go, going by the budget's policy.
fn is_no_loss(pod: &Value, budget: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready = conditions.is_some_and(|conditions| {
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        conditions.iter().any(is_ready)
    });
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let is_enough = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
    !is_ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || is_enough)
}

fn check(budget: &Value) -> Outcome<()> {
    let name = budget["metadata"]["name"].as_str().unwrap_or_default();
    let counted = &budget["status"];
    let count = |field: &str| counted[field].as_i64().unwrap_or(0);
    let refuse = |status: Status, why: String| Err(Box::new(status.with_cause("DisruptionBudget", &why, "")));
    if count("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refuse(Status::too_many_requests(VIOLATES, RETRY_AFTER_S), why);
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden(name, "pdb disruptions allowed is negative"));
    }
    let disrupted = counted["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if disrupted > DISRUPTED_PODS_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(forbidden(name, why));
    }
    if allowed == 0 {
        let (wanted, healthy) = (count("desiredHealthy"), count("currentHealthy"));
        let why = format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently");
        return refuse(Status::too_many_requests(VIOLATES, 0), why);
    }
    Ok(())
}

/// Upstream names the resource in the singular here.
fn forbidden(name: &str, why: &str) -> Box<Status> {
    let details = json!({"name": name, "group": "policy", "kind": "poddisruptionbudget"});
    let message = format!("poddisruptionbudget.policy {name:?} is forbidden: {why}");
    status(403, "Forbidden", message, details)
}

/// Sets a condition of a status, by its type.
fn set_condition(status: &mut Value, condition: Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let conditions = status["conditions"].as_array_mut().expect("it was made an array above");
    match conditions.iter_mut().find(|old| old["type"] == condition["type"]) {
        Some(old) if old["status"] == condition["status"] => {
            let since = old["lastTransitionTime"].clone();
            *old = condition;
            old["lastTransitionTime"] = since;
        }
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_cannot_pay_say_why() {
        let words = |status: Value| {
            let budget = json!({"metadata": {"name": "b", "generation": 2}, "status": status});
            let status = check(&budget).unwrap_err();
            let cause = status.details["causes"][0]["message"]
                .as_str()
                .unwrap_or(&status.message);
            (status.code, cause.to_owned())
        };
        assert_eq!(
            words(json!({"observedGeneration": 1})),
            (
                429,
                "The disruption budget b is still being processed by the server.".to_owned()
            )
        );
        assert_eq!(
            words(json!({"observedGeneration": 2, "desiredHealthy": 3, "currentHealthy": 2})),
            (
                429,
                "The disruption budget b needs 3 healthy pods and has 2 currently".to_owned()
            )
        );
        assert_eq!(words(json!({"observedGeneration": 2, "disruptionsAllowed": -1})).0, 403);
    }

    #[test]
    fn an_unready_pod_may_go_where_enough_others_are_well() {
        let budget = |policy: &str, healthy: i64| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"currentHealthy": healthy, "desiredHealthy": 2}});
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(is_no_loss(&unready, &budget("IfHealthyBudget", 2)));
        assert!(!is_no_loss(&unready, &budget("IfHealthyBudget", 1)));
        assert!(is_no_loss(&unready, &budget("AlwaysAllow", 0)));
        assert!(!is_no_loss(&ready, &budget("AlwaysAllow", 5)));
    }
}
