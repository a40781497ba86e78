//! The rows of Jobs and CronJobs, and of Jobs whose time is over.

use std::sync::Arc;

use api::k8s::api::batch::v1::{CronJob, Job};
use api::k8s::api::core::v1::Pod;
use controllers_plan::{Key, Kind, Plan, controller_of, cronjob, job, selection, ttl};
use jiff::Timestamp;

use super::Row;
use super::keys::{BY_SELECTOR, controllers, itself, key_of, may_select, namespace_of, orphan, selector_term, uid_of};
use crate::cache::Change;
use crate::caches::{Caches, Watch};

pub(crate) fn row() -> Row {
    Row {
        name: "job-controller",
        watches: vec![
            Watch::on::<Job>(of_job).indexed(BY_SELECTOR, |job: &Job| {
                selector_term(&job.metadata, job.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
            }),
            Watch::on::<Pod>(of_pod),
        ],
        decide: Box::new(|caches, key, now| {
            if key.kind == Kind::of::<Pod>() {
                decide_orphan(caches, key)
            } else {
                decide(caches, key, now)
            }
        }),
    }
}

pub(crate) fn cron_job_row() -> Row {
    Row {
        name: "cronjob-controller",
        watches: vec![
            Watch::on::<CronJob>(itself),
            Watch::on::<Job>(|_, change| controllers(Kind::of::<CronJob>(), change)),
        ],
        decide: Box::new(|caches, key, now| {
            let Some(cron_job) = caches.of::<CronJob>().get(&key.namespace, &key.name) else {
                return Plan::default();
            };
            let jobs = caches.of::<Job>().controlled_by(uid_of(&cron_job.metadata));
            let seen = cronjob::Observed {
                cron_job: &cron_job,
                jobs: jobs.iter().map(Arc::as_ref).collect(),
            };
            cronjob::plan(&seen, now)
        }),
    }
}

pub(crate) fn ttl_row() -> Row {
    Row {
        name: "ttl-after-finished-controller",
        watches: vec![Watch::on::<Job>(itself)],
        decide: Box::new(|caches, key, now| {
            let job = caches.of::<Job>().get(&key.namespace, &key.name);
            job.map(|job| ttl::plan(&job, now)).unwrap_or_default()
        }),
    }
}

/// A job that is over or gone leaves it to others to take the finalizers off its pods.
fn of_job(caches: &Caches, change: &Change<Job>) -> Vec<Key> {
    let mut keys = itself(caches, change);
    if change.new.as_ref().is_none_or(|job| job::is_finished(job)) {
        let pods = caches.of::<Pod>().controlled_by(uid_of(&change.latest().metadata));
        let left = pods.iter().filter(|pod| job::has_finalizer(pod));
        keys.extend(left.map(|pod| key_of(Kind::of::<Pod>(), &pod.metadata)));
    }
    keys
}

/// A pod concerns its job; one that awaits a record which no job will make, itself; one of nobody, who may adopt it.
fn of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let kind = Kind::of::<Job>();
    let mut keys = controllers(kind, change);
    if let Some(pod) = change.new.as_ref().filter(|pod| job::has_finalizer(pod))
        && job_of(caches, pod).is_none_or(|job| job::is_finished(&job))
    {
        keys.push(key_of(Kind::of::<Pod>(), &pod.metadata));
    }
    if let Some(orphan) = orphan(change) {
        let adopters = may_select(caches.of::<Job>(), &orphan.metadata);
        let selects = |job: &&Arc<Job>| {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|selector| selection::selects(selector, orphan.metadata.labels.as_ref()))
        };
        keys.extend(adopters.iter().filter(selects).map(|job| key_of(kind, &job.metadata)));
    }
    keys
}

fn job_of(caches: &Caches, pod: &Pod) -> Option<Arc<Job>> {
    let owner = controller_of(&pod.metadata)?;
    let job = caches.of::<Job>().get(namespace_of(&pod.metadata), &owner.name)?;
    (uid_of(&job.metadata) == owner.uid).then_some(job)
}

fn decide_orphan(caches: &Caches, key: &Key) -> Plan {
    let Some(pod) = caches.of::<Pod>().get(&key.namespace, &key.name) else {
        return Plan::default();
    };
    job::plan_orphan(&pod, job_of(caches, &pod).as_deref())
}

fn decide(caches: &Caches, key: &Key, now: Timestamp) -> Plan {
    let Some(job) = caches.of::<Job>().get(&key.namespace, &key.name) else {
        return Plan::default();
    };
    let mut pods = caches.of::<Pod>().controlled_by(uid_of(&job.metadata));
    if let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()) {
        let orphans = caches.of::<Pod>().uncontrolled_in(&key.namespace).into_iter();
        pods.extend(orphans.filter(|pod| selection::selects(selector, pod.metadata.labels.as_ref())));
    }
    let seen = job::Observed {
        job: &job,
        pods: pods.iter().map(Arc::as_ref).collect(),
    };
    job::plan(&seen, now)
}
