//! One pod's worker: looks at the pod, plans, starts jobs, tells the API, and looks again when anything happens.
//!
//! It keeps nothing that a restart of the agent could not find again: the pod from the API, its sandboxes and
//! containers from the runtime. What it remembers besides is only about things in progress.

mod grant;
mod observe;
mod outcome;

use crate::jobs::{self, Context, Outcome, Start};
use crate::prober;
use crate::references::References;
use crate::resize;
use crate::run::Node;
use crate::runtime::PodRecords;
use crate::security;
use crate::status::{Publisher, is_newer};
use crate::volumes::Mounted;
use api::fit::NodeIdentity;
use api::k8s::api::core::v1::{Node as NodeObject, Pod, PodSpec, ResourceRequirements};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use node_plan::{Job, Memory, Observed, POD_SUBJECT, Plan, Step, Stopping, Volumes};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Verdicts that wait for the worker; probes are slow, so a few are enough.
const NEWS: usize = 32;
/// When the runtime does not answer it is asked again after this time.
const RUNTIME_RETRY: Duration = Duration::from_secs(1);

/// The pod as the API has it now.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    /// The object.
    pub(crate) pod: Arc<Pod>,
    /// Whether it is gone.
    pub(crate) removed: bool,
    /// Why the node cannot keep it, if it cannot.
    pub(crate) evicted: Option<Eviction>,
    /// Why the node did not take it, if it did not: reason and message.
    pub(crate) refused: Option<(&'static str, String)>,
}

/// Why a pod must leave the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// For people.
    pub(crate) message: String,
}

/// A pod's worker.
pub(crate) struct Worker {
    node: Arc<Node>,
    uid: String,
    latest: watch::Receiver<Latest>,
    wake: Arc<Notify>,
    /// The pod as the API has it.
    wanted: Arc<Pod>,
    /// The same with the resources it was granted; all work is for this one.
    pod: Arc<Pod>,
    removed: bool,
    records: PodRecords,
    /// Whether the records may be out of date.
    must_look: bool,
    memory: Memory,
    /// A resize was granted, and its end is to be told.
    is_resizing: bool,
    volumes: Volumes,
    mounted: Arc<Mounted>,
    busy: BTreeMap<String, Job>,
    tasks: BTreeMap<String, Task>,
    jobs: JoinSet<Outcome>,
    probes: HashMap<String, AbortOnDropHandle<()>>,
    news: mpsc::Receiver<prober::News>,
    news_in: mpsc::Sender<prober::News>,
    references: References,
    changes: SelectAll<BoxStream<'static, ()>>,
    /// Files of volumes may be out of date.
    is_stale: bool,
    /// When a service account token must be renewed.
    renew_at: Option<Timestamp>,
    publisher: Publisher,
    /// The waiting reason last told of, by container.
    told: BTreeMap<String, String>,
    because: Vec<node_plan::Reason>,
}

struct Task {
    id: tokio::task::Id,
    abort: AbortHandle,
    cancel: CancellationToken,
}

impl Worker {
    /// A worker for a pod that has just been seen.
    pub(crate) fn new(node: Arc<Node>, latest: watch::Receiver<Latest>, wake: Arc<Notify>) -> Self {
        let Latest {
            pod, removed, refused, ..
        } = latest.borrow().clone();
        let (news_in, news) = mpsc::channel(NEWS);
        let references = References::new(&node, &pod);
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut memory = Memory {
            seen_at: Timestamp::now(),
            ..Memory::default()
        };
        memory.refused = refused.or_else(|| refusal(&pod));
        let mut this = Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            latest,
            wake,
            removed,
            records: PodRecords::default(),
            must_look: true,
            memory,
            volumes: Volumes::Unknown,
            mounted: Arc::default(),
            busy: BTreeMap::new(),
            tasks: BTreeMap::new(),
            jobs: JoinSet::new(),
            probes: HashMap::new(),
            news,
            news_in,
            changes: references.changes(),
            references,
            is_stale: false,
            renew_at: None,
            publisher: Publisher::new(node.client.clone(), &namespace),
            told: BTreeMap::new(),
            because: Vec::new(),
            node,
            wanted: pod.clone(),
            pod,
            is_resizing: false,
        };
        this.first_grant();
        this
    }

    /// Works until nothing of the pod is left, or until shutdown; the pod's uid.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> String {
        self.check_node().await;
        self.tell_refusal();
        loop {
            self.take_latest();
            let observed = if self.must_look { self.observe().await } else { Ok(()) };
            self.must_look = observed.is_err();
            let again_at = match observed {
                Ok(()) => {
                    let plan = self.plan();
                    if plan.done {
                        jobs::remove_logs(&self.node, &self.pod).await;
                        break;
                    }
                    plan.again_at
                }
                Err(error) => {
                    tracing::debug!(%error, pod = self.name(), "the runtime does not answer");
                    let retry = SignedDuration::try_from(RUNTIME_RETRY).unwrap_or(SignedDuration::ZERO);
                    Timestamp::now().checked_add(retry).ok()
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.something_happens(again_at) => {}
            }
        }
        self.node.grants.release(&self.uid);
        self.uid
    }

    fn name(&self) -> String {
        let meta = &self.pod.metadata;
        format!(
            "{}/{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default()
        )
    }

    /// The newest of what the watch and our own writes brought.
    fn take_latest(&mut self) {
        let latest = self.latest.borrow_and_update().clone();
        self.removed = latest.removed;
        self.take_eviction(latest.evicted);
        let mut newest = latest.pod;
        if let Some(own) = self.publisher.latest().filter(|own| is_newer(own, &newest)) {
            newest = Arc::new(own);
        }
        let old = &self.pod.metadata;
        if old.labels != newest.metadata.labels || old.annotations != newest.metadata.annotations {
            self.is_stale = true;
        }
        let wanted = |pod: &Pod| {
            pod.spec
                .as_ref()
                .map(|s| s.ephemeral_containers.as_ref().map_or(0, Vec::len))
        };
        let has_more = wanted(&self.pod) != wanted(&newest);
        self.wanted = newest;
        self.grant();
        if has_more {
            self.references = References::new(&self.node, &self.pod);
            self.changes = self.references.changes();
        }
    }

    fn plan(&mut self) -> Plan {
        let now = Timestamp::now();
        let containers: Vec<_> = self.records.containers.iter().map(|r| r.container.clone()).collect();
        let host_ips = self.node.config.node_addresses();
        let (plan, stopping) = {
            let mut seen = Observed {
                pod: &self.pod,
                removed: self.removed,
                sandboxes: &self.records.sandboxes,
                containers: &containers,
                memory: &self.memory,
                volumes: &self.volumes,
                busy: &self.busy,
                host_ips: &host_ips,
                runtime: &self.node.runtime_name,
            };
            let stopping = node_plan::stopping(&seen, now);
            let memory = Memory {
                stopping,
                ..self.memory.clone()
            };
            seen.memory = &memory;
            (node_plan::plan(&seen, now), stopping)
        };
        self.remember_stopping(stopping);
        if plan.because != self.because {
            for reason in &plan.because {
                tracing::debug!(pod = self.name(), container = reason.about, "{}", reason.text);
            }
            self.because.clone_from(&plan.because);
        }
        let ends = |step: &Step| {
            matches!(
                step,
                Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } | Step::DeletePod
            )
        };
        if self.memory.stopping.is_some() && self.memory.last_status.is_none() && plan.steps.iter().any(ends) {
            self.memory.last_status = Some(plan.status.clone());
        }
        if !self.removed && !self.memory.deleted {
            self.tell_waiting(&plan.status);
            self.tell_resized(plan.status.conditions.as_deref().unwrap_or_default());
            self.publisher.publish(&self.wanted, plan.status.clone());
        }
        for step in &plan.steps {
            self.take(step.clone(), now);
        }
        self.refresh_files(now);
        self.watch_over(&containers);
        plan
    }

    /// Notes a shutdown; what failed on the way up does not hold up the way down.
    fn remember_stopping(&mut self, stopping: Option<Stopping>) {
        if stopping.is_some() && self.memory.stopping.is_none() {
            self.memory.sandbox_failure = None;
            if matches!(self.volumes, Volumes::Failed(_)) {
                self.volumes = Volumes::Unknown;
            }
            // Planned anew at once, now that nothing is to be waited for.
            self.wake.notify_one();
        }
        self.memory.stopping = stopping;
    }

    /// Starts the job of a step.
    fn take(&mut self, step: Step, now: Timestamp) {
        tracing::debug!(pod = self.name(), ?step, "next step");
        let subject = step.subject().to_owned();
        if let Step::CancelStart { name } = &step {
            if let Some(task) = self.tasks.get(name) {
                task.cancel.cancel();
            }
            self.busy.insert(subject, Job::Start { cancelled: true });
            return;
        }
        if let Some(old) = self.tasks.remove(&subject) {
            // Only a Kill with a shorter grace replaces what is under way.
            old.abort.abort();
        }
        let cancel = CancellationToken::new();
        let Some((job, abort)) = self.begin(step, &cancel, now) else {
            return;
        };
        self.tasks.insert(
            subject.clone(),
            Task {
                id: abort.id(),
                abort,
                cancel,
            },
        );
        self.busy.insert(subject, job);
    }

    /// The job of a step; `None` if what it works on is gone.
    fn begin(&mut self, step: Step, cancel: &CancellationToken, now: Timestamp) -> Option<(Job, AbortHandle)> {
        let ctx = self.context();
        let record = |id: &str| self.records.containers.iter().find(|r| r.container.id == id).cloned();
        let begun = match step {
            Step::PrepareVolumes => (Job::Pod, self.jobs.spawn(jobs::prepare_volumes(ctx))),
            Step::UnmountVolumes => (Job::Pod, self.jobs.spawn(jobs::unmount_volumes(ctx))),
            Step::CreateSandbox { attempt } => (Job::Pod, self.jobs.spawn(jobs::create_sandbox(ctx, attempt))),
            Step::StopSandbox { id } => (Job::Pod, self.jobs.spawn(jobs::stop_sandbox(ctx, id))),
            Step::RemoveSandbox { id } => (Job::Pod, self.jobs.spawn(jobs::remove_sandbox(ctx, id))),
            Step::DeletePod => (
                Job::Pod,
                self.jobs.spawn(jobs::delete_pod(ctx, self.publisher.flushed())),
            ),
            Step::Start {
                name,
                sandbox_id,
                restart_count,
                backoff_s,
            } => {
                let sandbox = self.records.sandboxes.iter().find(|s| s.id == sandbox_id);
                let sandbox_attempt = sandbox.map_or(0, |s| s.attempt);
                let how = Start {
                    name,
                    sandbox_id,
                    sandbox_attempt,
                    restart_count,
                    backoff_s,
                };
                (
                    Job::Start { cancelled: false },
                    self.jobs.spawn(jobs::start(ctx, how, cancel.clone())),
                )
            }
            Step::Kill { id, grace_s, why, .. } => {
                let record = record(&id)?;
                let deadline = now
                    .checked_add(SignedDuration::from_secs(grace_s))
                    .unwrap_or(Timestamp::MAX);
                (
                    Job::Kill { deadline },
                    self.jobs.spawn(jobs::kill(ctx, record, grace_s, why)),
                )
            }
            Step::RemoveContainer { id, .. } => {
                let record = record(&id)?;
                (Job::Remove, self.jobs.spawn(jobs::remove_container(ctx, record)))
            }
            Step::Resize { containers } => (
                Job::Pod,
                self.jobs.spawn(resize::resize(ctx, containers, self.applied())),
            ),
            Step::CancelStart { .. } => return None,
        };
        Some(begun)
    }

    fn context(&self) -> Context {
        let host_network = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let sandbox = self.records.sandboxes.iter().max_by_key(|s| (s.attempt, s.created_at));
        let pod_ips = if host_network {
            self.node.config.node_addresses()
        } else {
            sandbox.map(|s| s.ips.clone()).unwrap_or_default()
        };
        Context {
            node: self.node.clone(),
            pod: self.pod.clone(),
            references: self.references.clone(),
            pod_ips,
            mounted: self.mounted.clone(),
            cgroup: self.memory.granted.cgroup,
        }
    }

    /// What the containers have now, by id.
    fn applied(&self) -> BTreeMap<String, ResourceRequirements> {
        let made_with = self.records.containers.iter().map(|r| &r.container);
        let mut all: BTreeMap<_, _> = made_with
            .filter_map(|c| Some((c.id.clone(), c.resources.clone()?)))
            .collect();
        all.extend(self.memory.granted.applied.clone());
        all
    }

    /// Brings the files of mounted volumes up to date after a change of what they are made from.
    fn refresh_files(&mut self, now: Timestamp) {
        let token_due = self.renew_at.is_some_and(|at| at <= now);
        let ready = self.volumes == Volumes::Ready && self.memory.stopping.is_none();
        if !(self.is_stale || token_due) || !ready || self.busy.contains_key(POD_SUBJECT) {
            return;
        }
        self.is_stale = false;
        self.renew_at = None;
        let abort = self.jobs.spawn(jobs::prepare_volumes(self.context()));
        self.tasks.insert(
            POD_SUBJECT.to_owned(),
            Task {
                id: abort.id(),
                abort,
                cancel: CancellationToken::new(),
            },
        );
        self.busy.insert(POD_SUBJECT.to_owned(), Job::Pod);
    }

    async fn something_happens(&mut self, again_at: Option<Timestamp>) {
        let until = |time: Option<Timestamp>| async move {
            match time.map(|t| Duration::try_from(t.duration_since(Timestamp::now())).unwrap_or_default()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let earliest = [again_at, self.renew_at].into_iter().flatten().min();
        tokio::select! {
            Some(ended) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => {
                let (id, outcome) = match ended {
                    Ok((id, outcome)) => (id, outcome),
                    Err(error) => {
                        if error.is_panic() {
                            tracing::error!(%error, pod = self.name(), "a job panicked");
                        }
                        (error.id(), Outcome::Done)
                    }
                };
                self.job_ended(id, outcome).await;
            }
            Some(news) = self.news.recv() => self.take_news(&news),
            Some(()) = self.changes.next() => self.references_changed(),
            // A change of the object changes nothing in the runtime, which tells of changes of its own.
            Ok(()) = self.latest.changed() => return,
            () = self.wake.notified() => {}
            () = until(earliest) => {}
        }
        self.must_look = true;
    }
}

impl Worker {
    /// Refuses a pod that is not meant for this node, whoever bound it; the node's labels are for anybody to set.
    async fn check_node(&mut self) {
        let is_new = self
            .pod
            .status
            .as_ref()
            .is_none_or(|status| status.start_time.is_none());
        let is_choosy = |spec: &PodSpec| {
            let affinity = spec.affinity.as_ref();
            spec.node_selector.is_some() || affinity.is_some_and(|affinity| affinity.node_affinity.is_some())
        };
        let may_be_wrong = self.pod.spec.as_ref().is_some_and(is_choosy);
        // Upstream asks for room before it asks for labels, and for ports after.
        let has_no_room = matches!(&self.memory.refused, Some((reason, _)) if *reason != node_plan::NODE_PORTS);
        if !is_new || !may_be_wrong || has_no_room {
            return;
        }
        let nodes: Api<NodeObject> = Api::all(self.node.client.clone());
        let labels = match nodes.get_metadata(&self.node.config.node_name).await {
            Ok(node) => node.metadata.labels.unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "the node could not be read, its own labels count");
                self.node.labels.clone()
            }
        };
        let identity = NodeIdentity {
            name: &self.node.config.node_name,
            labels: &labels,
        };
        if let Some(why) = node_plan::unselected(&self.pod, identity) {
            self.memory.refused = Some(why);
        }
    }
}

/// Why no node of ours takes a pod: reason and message.
fn refusal(pod: &Pod) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    if security::needs_apparmor(spec) && !security::has_apparmor() {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Some(("AppArmor", message.into()));
    }
    let name = crate::sandbox_config::forbidden_sysctl(spec)?;
    Some((
        "SysctlForbidden",
        format!("forbidden sysctl: \"{name}\" not allowlisted"),
    ))
}
