//! The state of the scheduler, owned by one task: what is known of the cluster, the queue, and the requests under way.
//!
//! Changes come in through `apply`, answers to our own requests through `settle`; `advance` then decides whatever can be
//! decided. Nothing here waits, so nothing here can be late.

use crate::events::{Events, Told};
use crate::queue::{Condition, Pending, Queue, State};
use crate::requests::{self, ClaimWrite};
use kube::Client;
use scheduler_plan::{Candidate, Key, Placement, Preemption, Readiness, Refusal, Snapshot, Verdict};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests under way at a time: enough to keep an API server busy, few enough not to crowd others out.
const REQUESTS_MAX: usize = 64;
/// How long a placed pod may wait for its claims, as upstream.
const CLAIMS_TIMEOUT: Duration = Duration::from_secs(600);

/// The end of a request.
pub(crate) struct Answer {
    pod: Arc<Candidate>,
    request: Request,
    result: kube::Result<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    PrepareClaims,
    Bind,
    Explain,
    Preempt,
}

/// See the module's description.
pub(crate) struct Scheduling {
    client: Client,
    events: Events,
    pub(crate) snapshot: Snapshot,
    pub(crate) queue: Queue,
    /// Placed pods whose claims may have come further.
    pub(crate) unsettled: BTreeSet<Key>,
    /// Pods for which others are being told to leave.
    preempting: BTreeSet<Key>,
    requests: JoinSet<Answer>,
}

impl Scheduling {
    pub(crate) fn new(client: Client, events: Events) -> Self {
        let (snapshot, queue) = (Snapshot::default(), Queue::default());
        Self {
            client,
            events,
            snapshot,
            queue,
            unsettled: BTreeSet::new(),
            preempting: BTreeSet::new(),
            requests: JoinSet::new(),
        }
    }

    /// The next answer to one of our requests; pending for ever if none is under way.
    pub(crate) async fn next_answer(&mut self) -> Result<Answer, tokio::task::JoinError> {
        match self.requests.join_next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// When to call `advance` though nothing happened.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }

    /// Decides about each pod whose turn it is, as far as requests may be sent for it.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.bind_those_ready(now);
        while self.requests.len() < REQUESTS_MAX
            && let Some(pod) = self.queue.next(now)
        {
            match scheduler_plan::place(&pod, &self.snapshot) {
                Verdict::Place(placement) => self.place(&pod, placement, now),
                Verdict::Refuse(refusal) => self.refuse(&pod, refusal, now),
            }
        }
    }

    fn place(&mut self, pod: &Arc<Candidate>, placement: Placement, now: Instant) {
        tracing::debug!(pod = ?pod.key, node = placement.node, "placed");
        let news = self.snapshot.assume(pod, &placement);
        let write = |step| ClaimWrite::of(step, &placement.node, &self.snapshot);
        let writes: Vec<ClaimWrite> = news.iter().filter_map(write).collect();
        let has_claims = !placement.steps.is_empty();
        let node = placement.node.clone();
        self.queue.place(&pod.key, placement, now + CLAIMS_TIMEOUT);
        if has_claims {
            let client = self.client.clone();
            self.request(pod, Request::PrepareClaims, async move {
                requests::prepare_claims(&client, writes).await
            });
        } else {
            self.bind(pod, node);
        }
    }

    fn bind(&mut self, pod: &Arc<Candidate>, node: String) {
        if let Some(Pending {
            state: State::Placed { is_binding, .. },
            ..
        }) = self.queue.get_mut(&pod.key)
        {
            *is_binding = true;
        }
        let (client, bound) = (self.client.clone(), Arc::clone(pod));
        self.request(pod, Request::Bind, async move {
            requests::bind(&client, &bound, &node).await
        });
    }

    fn request(
        &mut self,
        pod: &Arc<Candidate>,
        request: Request,
        work: impl Future<Output = kube::Result<()>> + Send + 'static,
    ) {
        let pod = Arc::clone(pod);
        self.requests.spawn(async move {
            Answer {
                pod,
                request,
                result: work.await,
            }
        });
    }

    /// Takes a decision back that did not come true.
    pub(crate) fn forget(&mut self, key: &Key, now: Instant) {
        let Some(Pending {
            state: State::Placed { placement, .. },
            ..
        }) = self.queue.get(key)
        else {
            return;
        };
        // Whoever waits for the same claims relied on this one.
        for step in &placement.steps {
            self.unsettled.extend(self.queue.waiting_for(step.claim()).cloned());
        }
        self.snapshot.withdraw(key);
        self.queue.wake(|waits_for| waits_for.pods_gone, now);
    }

    /// Binds each placed pod whose claims are ready; places those anew whose claims went another way.
    fn bind_those_ready(&mut self, now: Instant) {
        for key in self.queue.expired(now) {
            let is_waiting = |pod: &Pending| matches!(pod.state, State::Placed { is_binding: false, .. });
            if self.queue.get(&key).is_some_and(is_waiting) {
                self.place_anew(&key, "timed out waiting for the pod's claims to be bound", now);
            }
        }
        for key in std::mem::take(&mut self.unsettled) {
            let Some(pod) = self.queue.get(&key) else { continue };
            let State::Placed {
                placement,
                is_prepared: true,
                is_binding: false,
                ..
            } = &pod.state
            else {
                continue;
            };
            match scheduler_plan::readiness(&pod.candidate, placement, &self.snapshot) {
                Readiness::Ready => {
                    let (pod, node) = (Arc::clone(&pod.candidate), placement.node.clone());
                    self.bind(&pod, node);
                }
                Readiness::Broken(why) => self.place_anew(&key, &why, now),
                Readiness::Waiting => {}
            }
        }
    }

    fn place_anew(&mut self, key: &Key, why: &str, now: Instant) {
        let Some(pod) = self.queue.get(key).map(|pod| Arc::clone(&pod.candidate)) else {
            return;
        };
        self.forget(key, now);
        self.queue.retry(key, now);
        self.explain(&pod, "SchedulerError", &format!("binding volumes: {why}"));
    }

    fn refuse(&mut self, pod: &Arc<Candidate>, refusal: Refusal, now: Instant) {
        tracing::debug!(pod = ?pod.key, why = refusal.message, "refused");
        self.queue.wait(&pod.key, refusal.waits_for, now);
        self.explain(pod, "Unschedulable", &refusal.message);
        if !self.preempting.contains(&pod.key)
            && let Some(preemption) = scheduler_plan::preempt(pod, &self.snapshot)
        {
            self.preempt(pod, preemption);
        }
    }

    /// Makes less important pods leave a node, and keeps the room for the pod; it is placed when they are gone.
    fn preempt(&mut self, pod: &Arc<Candidate>, preemption: Preemption) {
        let Preemption { node, victims } = preemption;
        for victim in &victims {
            self.events.tell(Told {
                pod: Arc::clone(victim),
                is_warning: false,
                reason: "Preempted",
                action: "Preempting",
                note: format!("Preempted by pod {} on node {node}", pod.uid),
            });
        }
        // The room that was kept for less important pods is not theirs any more.
        let less = self
            .snapshot
            .nominees(&node)
            .filter(|other| other.priority < pod.priority);
        let passed_over: Vec<_> = less.cloned().collect();
        for other in &passed_over {
            self.snapshot.withdraw_nomination(&other.key);
        }
        self.snapshot.nominate(pod, &node);
        self.preempting.insert(pod.key.clone());
        let (client, preemptor) = (self.client.clone(), Arc::clone(pod));
        self.request(pod, Request::Preempt, async move {
            requests::preempt(&client, &preemptor, &node, &victims, &passed_over).await
        });
    }

    /// Tells people why a pod waits: as an event, and as its condition unless that says so already.
    fn explain(&mut self, pod: &Arc<Candidate>, reason: &str, message: &str) {
        self.events.tell(Told {
            pod: Arc::clone(pod),
            is_warning: true,
            reason: "FailedScheduling",
            action: "Scheduling",
            note: message.to_owned(),
        });
        let Some(pending) = self.queue.get_mut(&pod.key) else {
            return;
        };
        let before = pending.condition.take();
        let since = before
            .as_ref()
            .filter(|before| before.status == "False")
            .and_then(|before| before.since.clone());
        let condition = Condition {
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: since.or_else(|| Some(format!("{:.0}", ambient::now()))),
        };
        pending.condition = Some(condition.clone());
        if before.as_ref() != Some(&condition) {
            let (client, pod_to_patch) = (self.client.clone(), Arc::clone(pod));
            let work = async move { requests::explain(&client, &pod_to_patch, &condition).await };
            self.request(pod, Request::Explain, work);
        }
    }

    /// Takes the answer to one of our requests in.
    pub(crate) fn settle(&mut self, answer: Answer, now: Instant) {
        let Answer { pod, request, result } = answer;
        if request == Request::Preempt {
            self.preempting.remove(&pod.key);
        }
        let Some(pending) = self
            .queue
            .get_mut(&pod.key)
            .filter(|pending| pending.candidate.uid == pod.uid)
        else {
            return self.settle_unqueued(&pod, request, result);
        };
        match (request, result, &mut pending.state) {
            (Request::PrepareClaims, Ok(()), State::Placed { is_prepared, .. }) => {
                *is_prepared = true;
                self.unsettled.insert(pod.key.clone());
            }
            (Request::Bind, Ok(()), State::Placed { placement, .. }) => {
                let node = placement.node.clone();
                self.tell_scheduled(&pod, &node);
            }
            (Request::Preempt, Err(error), _) => {
                tracing::debug!(pod = ?pod.key, error = chain(error), "could not make others leave");
                self.snapshot.withdraw_nomination(&pod.key);
                self.queue.retry(&pod.key, now);
            }
            (Request::Explain, Err(error), _) => {
                pending.condition = None;
                tracing::debug!(pod = ?pod.key, error = chain(error), "could not say why the pod waits");
            }
            (Request::PrepareClaims | Request::Bind, Err(error), State::Placed { .. }) => {
                self.failed(&pod, error, now);
            }
            _ => {}
        }
    }

    /// The watch was faster than the answer, or the pod is gone.
    fn settle_unqueued(&self, pod: &Arc<Candidate>, request: Request, result: kube::Result<()>) {
        if request == Request::Bind
            && result.is_ok()
            && let Some((node, _)) = self.snapshot.pod(&pod.key).filter(|(_, known)| known.uid == pod.uid)
        {
            self.tell_scheduled(pod, node);
        }
    }

    fn failed(&mut self, pod: &Arc<Candidate>, error: kube::Error, now: Instant) {
        // Gone or bound by somebody else: the watch will tell. Tried again after a pause in case it does not.
        let is_expected = matches!(&error, kube::Error::Api(status) if status.code == 404 || status.code == 409);
        let why = chain(error);
        tracing::debug!(pod = ?pod.key, error = why, "a placement failed");
        self.forget(&pod.key, now);
        self.queue.retry(&pod.key, now);
        if !is_expected {
            self.explain(pod, "SchedulerError", &why);
        }
    }

    fn tell_scheduled(&self, pod: &Arc<Candidate>, node: &str) {
        let (namespace, name) = &pod.key;
        self.events.tell(Told {
            pod: Arc::clone(pod),
            is_warning: false,
            reason: "Scheduled",
            action: "Binding",
            note: format!("Successfully assigned {namespace}/{name} to {node}"),
        });
    }
}

fn chain(error: kube::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
