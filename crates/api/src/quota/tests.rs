//! Usage and charges by example.

use super::*;

const NOW_S: i64 = 1_800_000_000;

fn used(plural: &str, object: &Value) -> Value {
    to_value(&usage("", plural, object, NOW_S))
}

fn container(resources: Value) -> Value {
    json!({"name": "c", "resources": resources})
}

fn pod(resources: Value) -> Value {
    json!({"spec": {"containers": [container(resources)]}})
}

#[test]
fn what_a_pod_uses() {
    let full = json!({"requests": {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
        "hugepages-2Mi": "4Mi", "example.com/gpu": "3"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(
        used("pods", &pod(full)),
        json!({"count/pods": "1", "pods": "1", "cpu": "500m", "requests.cpu": "500m", "limits.cpu": "1",
            "memory": "252Mi", "requests.memory": "252Mi", "limits.memory": "1Gi", "ephemeral-storage": "30Gi",
            "requests.ephemeral-storage": "30Gi", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi",
            "requests.example.com/gpu": "3"})
    );
    let mut starting = pod(json!({"requests": {"cpu": "100m"}}));
    starting["spec"]["initContainers"] = json!([
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
        {"name": "i", "resources": {"requests": {"cpu": "1"}}},
    ]);
    starting["spec"]["overhead"] = json!({"cpu": "50m"});
    assert_eq!(used("pods", &starting)["requests.cpu"], "1350m");
}

#[test]
fn a_pod_that_has_ended_only_counts_as_an_object() {
    let mut ended = pod(json!({"requests": {"cpu": "1"}}));
    ended["status"]["phase"] = json!("Succeeded");
    assert_eq!(used("pods", &ended), json!({"count/pods": "1"}));
    let mut lost = pod(json!({}));
    lost["metadata"] = json!({"deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
    assert_eq!(used("pods", &lost), json!({"count/pods": "1"}));
}

#[test]
fn what_services_and_claims_use() {
    let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
    assert_eq!(
        used("services", &service),
        json!({"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"})
    );
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        used("persistentvolumeclaims", &claim),
        json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"})
    );
    assert_eq!(
        used("secrets", &json!({})),
        json!({"count/secrets": "1", "secrets": "1"})
    );
    let widget = usage("example.com", "widgets", &json!({}), NOW_S);
    assert_eq!(to_value(&widget), json!({"count/widgets.example.com": "1"}));
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn charge(object: &Value, old: Option<&Value>, quota: &Value) -> Result<Option<Value>, String> {
    let charge = Charge {
        group: "",
        plural: "pods",
        object,
        old,
        now_s: NOW_S,
    };
    charge.to(quota)
}

#[test]
fn a_pod_is_charged_until_the_quota_is_full() {
    let object = pod(json!({"requests": {"cpu": "600m", "memory": "1Mi"}}));
    let quota = quota(
        json!({"pods": "5", "cpu": "1", "configmaps": "1"}),
        json!({"pods": "1", "cpu": "0", "configmaps": "1"}),
    );
    let mut charged = quota.clone();
    charged["status"]["used"] = charge(&object, None, &quota).unwrap().unwrap();
    assert_eq!(
        charged["status"]["used"],
        json!({"pods": "2", "cpu": "600m", "configmaps": "1"})
    );
    assert_eq!(
        charge(&object, None, &charged).unwrap_err(),
        "exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1"
    );
    // What does not grow is not charged, whatever the quota says.
    assert_eq!(charge(&object, Some(&object), &charged), Ok(None));
}

#[test]
fn quotas_want_to_know_and_to_be_known() {
    let object = pod(json!({"requests": {"cpu": "1"}}));
    let memory = quota(
        json!({"limits.memory": "1Gi", "cpu": "1"}),
        json!({"limits.memory": "0", "cpu": "0"}),
    );
    assert_eq!(
        charge(&object, None, &memory).unwrap_err(),
        "failed quota: q: must specify limits.memory for: c"
    );
    let fresh = quota(json!({"pods": "1"}), json!({}));
    assert_eq!(
        charge(&object, None, &fresh).unwrap_err(),
        "status unknown for quota: q, resources: pods"
    );
    assert_eq!(
        charge(&object, None, &quota(json!({"secrets": "0"}), json!({}))),
        Ok(None)
    );
}

#[test]
fn scopes_choose_pods() {
    let check = |scope: Value, pod: &Value, expected: bool| {
        let quota = json!({"spec": {"scopeSelector": {"matchExpressions": [scope]}}});
        assert_eq!(selects(&quota, "", "pods", pod), expected, "{scope} {pod}");
    };
    let best_effort = pod(json!({}));
    let mut ending = pod(json!({"requests": {"cpu": "1"}}));
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    ending["spec"]["priorityClassName"] = json!("high");
    for (name, of_best_effort, of_ending) in [
        ("Terminating", false, true),
        ("NotTerminating", true, false),
        ("BestEffort", true, false),
        ("NotBestEffort", false, true),
        ("PriorityClass", false, true),
    ] {
        let scope = json!({"scopeName": name, "operator": "Exists"});
        check(scope.clone(), &best_effort, of_best_effort);
        check(scope, &ending, of_ending);
    }
    let class =
        |operator: &str, values: Value| json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
    check(class("In", json!(["high"])), &ending, true);
    check(class("In", json!(["high"])), &best_effort, false);
    check(class("NotIn", json!(["high"])), &ending, false);
    check(class("NotIn", json!(["high"])), &best_effort, true);
    check(class("DoesNotExist", json!([])), &best_effort, true);
    let scoped = json!({"spec": {"scopes": ["BestEffort"]}});
    assert!(!selects(&scoped, "", "secrets", &json!({})));
}

#[test]
fn the_total_names_every_limited_resource() {
    let quota = quota(
        json!({"pods": "5", "count/widgets.example.com": "1", "secrets": "2"}),
        json!({}),
    );
    let (object, secret) = (pod(json!({})), json!({}));
    let objects = [
        ("", "pods", &object),
        ("", "secrets", &secret),
        ("", "secrets", &secret),
    ];
    assert_eq!(
        total(&quota, objects.into_iter(), NOW_S),
        json!({"pods": "1", "count/widgets.example.com": "0", "secrets": "2"})
    );
}
