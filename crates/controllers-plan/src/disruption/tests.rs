use super::*;
use serde_json::Value;

const NOW: &str = "2026-11-22T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn budget(spec: &Value, status: &Value) -> PodDisruptionBudget {
    let metadata = json!({"name": "pdb", "namespace": "default", "uid": "pdb", "generation": 2});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn pod(name: &str, ready: bool, owner: Option<&str>) -> Pod {
    let owners = owner.map(
        |uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true}]),
    );
    let ready = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "ownerReferences": owners},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

/// Plans for a budget over pods of which `ready` are ready, all of one set that wants `wanted`.
fn plan_for(spec: &Value, pods: usize, ready: usize, wanted: i32) -> (Plan, Value) {
    let pods: Vec<Pod> = (0..pods)
        .map(|i| pod(&format!("p{i}"), i < ready, Some("set")))
        .collect();
    let budget = budget(spec, &json!({"disruptionsAllowed": 0}));
    let scale = Scale {
        uid: "set".to_owned(),
        replicas: wanted,
    };
    let seen = Observed {
        budget: &budget,
        pods: pods.iter().collect(),
        scales: BTreeMap::from([("set".to_owned(), scale)]),
    };
    let plan = plan(&seen, now());
    let status = status_of(&plan);
    (plan, status)
}

fn status_of(plan: &Plan) -> Value {
    match plan.status.as_ref().map(|action| &action.write) {
        Some(crate::Write::Patch { patch, .. }) => patch["status"].clone(),
        _ => Value::Null,
    }
}

#[test]
fn what_is_spare_is_allowed() {
    let cases = [
        (json!({"minAvailable": 2}), (3, 3, 3), (3, 2, 1)),
        (json!({"minAvailable": 2}), (3, 2, 9), (3, 2, 0)),
        (json!({"minAvailable": "28%"}), (3, 3, 10), (10, 3, 0)),
        (json!({"minAvailable": "50%"}), (4, 4, 4), (4, 2, 2)),
        (json!({"maxUnavailable": 1}), (3, 3, 3), (3, 2, 1)),
        (json!({"maxUnavailable": 10}), (3, 3, 3), (3, 0, 3)),
        (json!({"maxUnavailable": "34%"}), (10, 10, 10), (10, 6, 4)),
        (json!({}), (3, 3, 3), (0, 0, 0)),
    ];
    for (spec, (pods, ready, wanted), (expected, desired, allowed)) in cases {
        let (_, status) = plan_for(&spec, pods, ready, wanted);
        assert_eq!(status["expectedPods"], expected, "{spec}");
        assert_eq!(status["desiredHealthy"], desired, "{spec}");
        assert_eq!(status["currentHealthy"], ready, "{spec}");
        // The stored status says 0 already.
        assert_eq!(status["disruptionsAllowed"].as_i64().unwrap_or(0), allowed, "{spec}");
        assert_eq!(status["observedGeneration"], 2);
        let reason = if allowed > 0 {
            "SufficientPods"
        } else {
            "InsufficientPods"
        };
        assert_eq!(status["conditions"][0]["reason"], reason);
    }
}

#[test]
fn pods_without_a_known_owner_make_a_percentage_fail() {
    let budget = budget(
        &json!({"maxUnavailable": "10%"}),
        &json!({"disruptionsAllowed": 3, "observedGeneration": 1}),
    );
    let pod = pod("p", true, Some("nobody"));
    let seen = Observed {
        budget: &budget,
        pods: vec![&pod],
        scales: BTreeMap::new(),
    };
    let plan = plan(&seen, now());
    let status = status_of(&plan);
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(status["conditions"][0]["message"], "found no controllers for pod \"p\"");
    assert_eq!(plan.events[0].notice.reason, "CalculateExpectedPodCountFailed");
    assert!(plan.retry.is_some());
}

#[test]
fn unmanaged_pods_are_told_of() {
    let budget = budget(&json!({"maxUnavailable": 1}), &json!({}));
    let pod = pod("lone", true, None);
    let seen = Observed {
        budget: &budget,
        pods: vec![&pod],
        scales: BTreeMap::new(),
    };
    let plan = plan(&seen, now());
    assert_eq!(status_of(&plan)["disruptionsAllowed"], 0);
    assert_eq!(plan.events[0].notice.reason, "UnmanagedPods");
    assert!(plan.events[0].notice.message.contains("lone"));
}

#[test]
fn an_evicted_pod_counts_as_lost_until_patience_ends() {
    let disrupted = |since: &str| {
        let status = json!({"disruptedPods": {"p0": since, "gone": since}});
        let budget = budget(&json!({"minAvailable": 1}), &status);
        let pods = [pod("p0", true, None), pod("p1", true, None)];
        let seen = Observed {
            budget: &budget,
            pods: pods.iter().collect(),
            scales: BTreeMap::new(),
        };
        plan(&seen, now())
    };
    let fresh = disrupted("2026-11-22T11:59:00Z");
    assert_eq!(status_of(&fresh)["currentHealthy"], 1);
    assert_eq!(status_of(&fresh)["disruptedPods"], json!({"gone": null}));
    assert_eq!(fresh.again_at, Some("2026-11-22T12:01:00Z".parse().unwrap()));
    let stale = disrupted("2026-11-22T11:57:00Z");
    assert_eq!(status_of(&stale)["currentHealthy"], 2);
    assert_eq!(stale.events[0].notice.reason, "NotDeleted");
}

#[test]
fn the_same_status_is_not_written_again() {
    let first = budget(&json!({"minAvailable": 1}), &json!({}));
    let pod = pod("p", true, None);
    let seen = |budget| Observed {
        budget,
        pods: vec![&pod],
        scales: BTreeMap::new(),
    };
    let status = status_of(&plan(&seen(&first), now()));
    let second = budget(&json!({"minAvailable": 1}), &status);
    assert_eq!(plan(&seen(&second), now()).status, None);
}

#[test]
fn a_target_that_was_spared_is_none_any_more() {
    let target = |since: &str, reason: &str| {
        let mut pod = pod("p", true, None);
        let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
        let target =
            json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since});
        conditions.push(serde_json::from_value(target).unwrap());
        plan_pod(&pod, now())
    };
    assert!(
        target("2026-11-22T11:59:00Z", "EvictionByEvictionAPI")
            .again_at
            .is_some()
    );
    let spared = target("2026-11-22T11:50:00Z", "EvictionByEvictionAPI");
    assert_eq!(status_of(&spared)["conditions"][1]["status"], "False");
    assert!(target("2026-11-22T11:50:00Z", "TerminationByKubelet").is_quiet());
}
