use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-22T12:00:30Z";

fn cron_job(spec: &Value, status: &Value) -> CronJob {
    let mut whole = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {}}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let metadata = json!({
        "name": "tick", "namespace": "default", "uid": "cj", "creationTimestamp": "2026-11-22T11:59:10Z",
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": whole, "status": status})).unwrap()
}

fn job(minute: &str, end: Option<&str>) -> Job {
    let due: Timestamp = minute.parse().unwrap();
    let name = job_name("tick", due);
    let conditions = end.map(|end| json!([{"type": end, "status": "True"}]));
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": minute, "annotations": {TIME_ANNOTATION: minute},
        },
        "status": {"conditions": conditions, "startTime": minute, "completionTime": end.map(|_| minute)},
    }))
    .unwrap()
}

fn plan_for(spec: &Value, status: &Value, jobs: &[Job]) -> Plan {
    let cron_job = cron_job(spec, status);
    let seen = Observed {
        cron_job: &cron_job,
        jobs: jobs.iter().collect(),
    };
    plan(&seen, NOW.parse().unwrap())
}

fn created(plan: &Plan) -> Vec<&str> {
    let names = plan.actions().filter(|action| matches!(action.write, Write::Create(_)));
    names.map(|action| action.key().name.as_str()).collect()
}

fn deleted(plan: &Plan) -> Vec<&str> {
    let names = plan
        .actions()
        .filter(|action| matches!(action.write, Write::Delete { .. }));
    names.map(|action| action.key().name.as_str()).collect()
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|event| event.notice.reason).collect()
}

#[test]
fn the_job_of_a_time_is_made_once() {
    let plan = plan_for(&json!({}), &json!({}), &[]);
    assert_eq!(created(&plan), ["tick-29922480"]);
    assert_eq!(plan.again_at, Some("2026-11-22T12:01:00.1Z".parse().unwrap()));
    let noon = "2026-11-22T12:00:00Z";
    assert!(created(&plan_for(&json!({}), &json!({"lastScheduleTime": noon}), &[])).is_empty());
    let made = plan_for(&json!({}), &json!({}), &[job(noon, None)]);
    assert!(created(&made).is_empty());
    let Some(Write::Patch { patch, .. }) = made.status.map(|action| action.write) else {
        panic!("no status")
    };
    assert_eq!(patch["status"]["lastScheduleTime"], noon);
    assert_eq!(patch["status"]["active"][0]["name"], "tick-29922480");
}

#[test]
fn what_keeps_a_job_from_being_made() {
    let running = [job("2026-11-22T11:58:00Z", None)];
    assert!(plan_for(&json!({"suspend": true}), &json!({}), &[]).is_quiet());
    let forbidden = plan_for(&json!({"concurrencyPolicy": "Forbid"}), &json!({}), &running);
    assert!(created(&forbidden).is_empty());
    assert!(reasons(&forbidden).contains(&"JobAlreadyActive"));
    let replaced = plan_for(&json!({"concurrencyPolicy": "Replace"}), &json!({}), &running);
    assert_eq!(deleted(&replaced), ["tick-29922478"]);
    assert_eq!(created(&replaced).len(), 1);
    let late = plan_for(&json!({"startingDeadlineSeconds": 10}), &json!({}), &[]);
    assert!(created(&late).is_empty());
    assert_eq!(
        reasons(&plan_for(&json!({"timeZone": "No/Where"}), &json!({}), &[])),
        ["UnknownTimeZone"]
    );
    assert_eq!(
        reasons(&plan_for(&json!({"schedule": "x"}), &json!({}), &[])),
        ["UnparseableSchedule"]
    );
}

#[test]
fn after_a_long_pause_only_the_latest_time_counts() {
    let plan = plan_for(&json!({}), &json!({"lastScheduleTime": "2026-11-21T00:00:00Z"}), &[]);
    assert_eq!(created(&plan), ["tick-29922480"]);
    assert_eq!(reasons(&plan), ["TooManyMissedTimes"]);
    let uneven = json!({"schedule": "30 6-16/4 * * 1-5"});
    let plan = plan_for(&uneven, &json!({"lastScheduleTime": "2026-11-16T06:30:00Z"}), &[]);
    // The last was on Friday, 14:30.
    let expected = job_name("tick", "2026-11-20T14:30:00Z".parse().unwrap());
    assert_eq!(created(&plan), [expected]);
}

#[test]
fn ended_jobs_leave_the_active_list_and_at_last_history() {
    let noon = "2026-11-22T12:00:00Z";
    let ends = ["2026-11-22T11:56:00Z", "2026-11-22T11:57:00Z", "2026-11-22T11:58:00Z"];
    let jobs: Vec<Job> = ends.iter().map(|at| job(at, Some("Complete"))).collect();
    let active: Vec<Value> = ends[2..]
        .iter()
        .map(|at| json!({"name": "n", "uid": at}))
        .chain([json!({"name": "lost", "uid": "lost"})])
        .collect();
    let status = json!({"lastScheduleTime": noon, "active": active});
    let plan = plan_for(&json!({"successfulJobsHistoryLimit": 1}), &status, &jobs);
    assert_eq!(deleted(&plan), ["tick-29922476", "tick-29922477"]);
    assert_eq!(reasons(&plan), ["MissingJob", "SawCompletedJob"]);
    let Some(Write::Patch { patch, .. }) = plan.status.map(|action| action.write) else {
        panic!("no status")
    };
    assert_eq!(patch["status"], json!({"active": null, "lastSuccessfulTime": ends[2]}));
}

#[test]
fn the_time_is_written_in_its_zone() {
    let at = "2026-07-01T06:00:00Z".parse().unwrap();
    assert_eq!(
        rfc3339(at, &time_zone("Europe/Berlin").unwrap()),
        "2026-07-01T08:00:00+02:00"
    );
    assert_eq!(rfc3339(at, &TimeZone::UTC), "2026-07-01T06:00:00Z");
}
