//! Jobs and CronJobs.

use super::*;

fn job(spec: &Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let mut job = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"template": template}});
    job["spec"]
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    job
}

#[test]
fn what_jobs_may_say() {
    let jobs = kind("batch", "jobs");
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let cases = [
        (json!({}), ""),
        (
            json!({"parallelism": -1}),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 1}),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 2, "successPolicy": {"rules": [{"succeededIndexes": "2"}]}}),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"2\": too large index: \"2\"",
        ),
        (
            json!({"managedBy": "me"}),
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (json!({"managedBy": "kueue.x-k8s.io/multikueue"}), ""),
        (
            rule(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]})),
            "",
        ),
        (
            rule(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}})),
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            rule(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}})),
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
    ];
    for (spec, expected) in cases {
        let errors = created(jobs, &job(&spec));
        assert_eq!(
            errors,
            Vec::from_iter([expected].into_iter().filter(|text| !text.is_empty())),
            "{spec}"
        );
    }
    let long = with(
        &job(&json!({"completionMode": "Indexed", "completions": 11})),
        "/metadata/name",
        json!("x".repeat(62)),
    );
    assert_eq!(created(jobs, &long).len(), 1);
}

#[test]
fn what_of_a_job_may_change() {
    let jobs = kind("batch", "jobs");
    let check = |old: Value, new: Value| {
        let (old, new) = (ready(jobs, &job(&old)), ready(jobs, &job(&new)));
        update(jobs, &new, &old).len()
    };
    assert_eq!(check(json!({"parallelism": 1}), json!({"parallelism": 3})), 0);
    assert_eq!(check(json!({"completions": 1}), json!({"completions": 2})), 1);
    let indexed = |completions: i32, parallelism: i32| json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism});
    assert_eq!(check(indexed(2, 2), indexed(4, 4)), 0);
    assert_eq!(check(indexed(2, 2), indexed(4, 2)), 1);
    assert_eq!(check(json!({}), json!({"managedBy": "a.example/b"})), 1);
}

#[test]
fn what_cron_jobs_may_say() {
    let cron_jobs = kind("batch", "cronjobs");
    let check = |spec: Value| {
        let mut whole = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job(&json!({}))["spec"]}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        created(
            cron_jobs,
            &json!({"metadata": {"name": "a", "namespace": "default"}, "spec": whole}),
        )
    };
    assert_eq!(check(json!({})), [""; 0]);
    assert_eq!(check(json!({"timeZone": "Europe/Berlin"})), [""; 0]);
    assert_eq!(
        check(json!({"schedule": "TZ=UTC 0 * * * *"})),
        [
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        ]
    );
    assert_eq!(
        check(json!({"schedule": "* * * *"})),
        ["spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]"]
    );
    assert_eq!(
        check(json!({"timeZone": "Mars/Base"})),
        ["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"]
    );
    assert_eq!(check(json!({"concurrencyPolicy": "Maybe"})).len(), 1);
}
