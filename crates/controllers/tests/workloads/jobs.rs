//! Jobs run to their end, each pod counted once; CronJobs make them in time.

use api::k8s::api::batch::v1::{CronJob, Job};
use api::k8s::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cluster::{BROKEN, Cluster, ENDS, FAILS, create, delete, is_ready, patch, patch_status, until, until_gone};

fn job(image: &str, more: &Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}});
    let mut job = json!({"metadata": {"name": "work"}, "spec": {"template": template}});
    json_patch::merge(&mut job["spec"], more);
    job
}

fn ended(job: &Job) -> Option<(String, String)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|known| matches!(known.type_.as_str(), "Complete" | "Failed"))?;
    Some((end.type_.clone(), end.reason.clone().unwrap_or_default()))
}

fn ended_so(job: &Job, type_: &str, reason: &str) -> bool {
    ended(job) == Some((type_.to_owned(), reason.to_owned()))
}

fn has_no_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
}

const OF_WORK: &str = "batch.kubernetes.io/job-name=work";

#[tokio::test]
async fn a_job_completes_and_is_deleted_after_its_time() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    create(&jobs, job(ENDS, &json!({"completions": 5, "parallelism": 2}))).await;
    let done = until(&jobs, "work", |job| ended_so(job, "Complete", "CompletionsReached")).await;
    let status = done.status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(5), None, None));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    cluster.until_pods(OF_WORK, 5, has_no_finalizer).await;
    cluster.until_event("Completed", "Job completed").await;
    patch(&jobs, "work", json!({"spec": {"ttlSecondsAfterFinished": 0}})).await;
    until_gone(&jobs, "work").await;
    cluster.until_pods(OF_WORK, 0, |_| true).await;
}

#[tokio::test]
async fn an_indexed_job_has_a_pod_for_each_index() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"});
    create(&jobs, job(ENDS, &spec)).await;
    let done = until(&jobs, "work", |job| ended(job).is_some()).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0-3"));
    let pods = cluster.until_pods(OF_WORK, 4, has_no_finalizer).await;
    let mut hosts: Vec<_> = pods
        .iter()
        .map(|pod| pod.spec.as_ref().unwrap().hostname.clone().unwrap())
        .collect();
    hosts.sort();
    assert_eq!(hosts, ["work-0", "work-1", "work-2", "work-3"]);
    let variable = pods[0].spec.as_ref().unwrap().containers[0].env.as_ref().unwrap()[0].clone();
    assert_eq!(variable.name, "JOB_COMPLETION_INDEX");
}

#[tokio::test]
async fn success_of_some_indexes_may_be_enough() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    let spec = json!({
        "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]},
    });
    create(&jobs, job("runs", &spec)).await;
    let pods = cluster.until_pods(OF_WORK, 3, is_ready).await;
    let first = pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref().unwrap().starts_with("work-0-"))
        .unwrap();
    let name = first.metadata.name.as_deref().unwrap();
    patch_status(
        &cluster.of::<Pod>(),
        name,
        json!({"phase": "Succeeded", "conditions": null}),
    )
    .await;
    let done = until(&jobs, "work", |job| ended_so(job, "Complete", "SuccessPolicy")).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0"));
    cluster.until_pods(OF_WORK, 1, has_no_finalizer).await;
}

#[tokio::test]
async fn too_many_failures_fail_a_job() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    create(&jobs, job(FAILS, &json!({"backoffLimit": 0}))).await;
    let failed = until(&jobs, "work", |job| ended_so(job, "Failed", "BackoffLimitExceeded")).await;
    assert_eq!(failed.status.unwrap().failed, Some(1));
    cluster.until_pods(OF_WORK, 1, has_no_finalizer).await;
    cluster
        .until_event("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        .await;
}

#[tokio::test]
async fn indexes_may_fail_by_themselves_and_rules_may_say_so() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    let spec = json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 3,
        "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}},
        ]},
    });
    create(&jobs, job(FAILS, &spec)).await;
    let failed = until(&jobs, "work", |job| ended_so(job, "Failed", "FailedIndexes")).await;
    let status = failed.status.unwrap();
    assert_eq!(
        (status.failed_indexes.as_deref(), status.failed),
        (Some("0,1"), Some(2))
    );
}

#[tokio::test]
async fn a_rule_may_fail_the_job_at_once() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    let spec = json!({
        "parallelism": 1, "completions": 1,
        "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}},
        ]},
    });
    create(&jobs, job(FAILS, &spec)).await;
    let failed = until(&jobs, "work", |job| ended_so(job, "Failed", "PodFailurePolicy")).await;
    let conditions = failed.status.unwrap().conditions.unwrap();
    assert_eq!(conditions[0].type_, "FailureTarget");
    assert!(
        conditions[1]
            .message
            .as_deref()
            .unwrap()
            .contains("failed with exit code 3 matching FailJob rule at index 0")
    );
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    create(
        &jobs,
        job("runs", &json!({"suspend": true, "parallelism": 2, "completions": 2})),
    )
    .await;
    let suspended = |status: &'static str| {
        move |job: &Job| {
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|known| known.type_ == "Suspended" && known.status == status)
        }
    };
    let job = until(&jobs, "work", suspended("True")).await;
    assert!(job.status.unwrap().start_time.is_none());
    patch(&jobs, "work", json!({"spec": {"suspend": false}})).await;
    until(&jobs, "work", suspended("False")).await;
    cluster.until_pods(OF_WORK, 2, is_ready).await;
    patch(&jobs, "work", json!({"spec": {"suspend": true}})).await;
    until(&jobs, "work", suspended("True")).await;
    cluster.until_pods(OF_WORK, 0, |_| true).await;
    // The status may still be the one of before the pods went.
    let job = until(&jobs, "work", |job| {
        let status = job.status.as_ref().unwrap();
        status.terminating == Some(0) && status.active.is_none()
    })
    .await;
    // What was removed counts neither as success nor as failure.
    let job = job.status.unwrap();
    assert_eq!((job.succeeded, job.failed), (None, None));
}

#[tokio::test]
async fn a_deadline_ends_a_job_and_deletion_leaves_nothing() {
    let cluster = Cluster::start().await;
    let jobs = cluster.of::<Job>();
    create(&jobs, job(BROKEN, &json!({"activeDeadlineSeconds": 1}))).await;
    until(&jobs, "work", |job| ended_so(job, "Failed", "DeadlineExceeded")).await;
    delete(&jobs, "work").await;
    until_gone(&jobs, "work").await;
    cluster.until_pods(OF_WORK, 0, |_| true).await;
}

#[tokio::test]
async fn a_cron_job_makes_the_job_of_its_time() {
    let cluster = Cluster::start().await;
    let cron_jobs = cluster.of::<CronJob>();
    let spec = json!({"schedule": "@every 1s", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job("runs", &json!({}))["spec"]}});
    create(&cron_jobs, json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    let active = |cron_job: &CronJob| cron_job.status.as_ref().and_then(|status| status.active.clone());
    let started = until(&cron_jobs, "tick", |cron_job| active(cron_job).is_some()).await;
    let name = active(&started).unwrap()[0].name.clone().unwrap();
    cluster
        .until_event("SuccessfulCreate", &format!("Created job {name}"))
        .await;
    patch(&cron_jobs, "tick", json!({"spec": {"suspend": true}})).await;
    delete(&cluster.of::<Job>(), &name).await;
    until(&cron_jobs, "tick", |cron_job| active(cron_job).is_none()).await;
    cluster.until_event("MissingJob", &name).await;
}
