//! What each change of the cluster means for the scheduler's state.

use crate::queue::{Condition, State};
use crate::scheduling::Scheduling;
use crate::watch::Change;
use api::k8s::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::policy::v1::PodDisruptionBudget;
use api::k8s::api::storage::v1::StorageClass;
use scheduler_plan::{Budget, Candidate, Key};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// Pods with another scheduler's name are not ours.
const SCHEDULER_NAME: &str = "default-scheduler";

/// A change of one of the watched kinds.
pub(crate) enum News {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Claim(Change<PersistentVolumeClaim>),
    Volume(Change<PersistentVolume>),
    Class(Change<StorageClass>),
    Namespace(Change<Namespace>),
    Budget(Change<PodDisruptionBudget>),
}

impl News {
    /// Whether a kind has been listed completely.
    pub(crate) fn is_synced(&self) -> bool {
        matches!(
            self,
            Self::Pod(Change::Synced)
                | Self::Node(Change::Synced)
                | Self::Claim(Change::Synced)
                | Self::Volume(Change::Synced)
                | Self::Class(Change::Synced)
                | Self::Namespace(Change::Synced)
                | Self::Budget(Change::Synced)
        )
    }
}

impl Scheduling {
    /// Takes a change in.
    pub(crate) fn apply(&mut self, news: News, now: Instant) {
        match news {
            News::Pod(Change::Is(pod)) => self.pod_is(&pod, now),
            News::Pod(Change::Gone(key)) => self.pod_is_gone(&key, now),
            News::Node(Change::Is(node)) => {
                if self.snapshot.set_node(&node) {
                    self.queue.wake(|_| true, now);
                }
            }
            News::Node(Change::Gone((_, name))) => {
                self.snapshot.remove_node(&name);
                self.unsettled.extend(self.queue.waiting_for_claims().cloned());
            }
            News::Claim(Change::Is(claim)) => {
                let key = key_of(&claim.metadata);
                self.snapshot.set_claim(*claim);
                self.claim_changed(&key);
                self.volumes_changed(now);
            }
            News::Claim(Change::Gone(key)) => {
                self.snapshot.remove_claim(&key);
                self.claim_changed(&key);
            }
            News::Volume(Change::Is(volume)) => {
                let name = volume.metadata.name.clone().unwrap_or_default();
                self.claims_of_volume_changed(&name);
                self.snapshot.set_volume(*volume);
                self.claims_of_volume_changed(&name);
                self.volumes_changed(now);
            }
            News::Volume(Change::Gone((_, name))) => {
                self.claims_of_volume_changed(&name);
                self.snapshot.remove_volume(&name);
            }
            News::Class(Change::Is(class)) => {
                let name = class.metadata.name.clone().unwrap_or_default();
                self.snapshot.classes.insert(name, Arc::from(class));
                self.volumes_changed(now);
            }
            News::Class(Change::Gone((_, name))) => {
                self.snapshot.classes.remove(&name);
            }
            News::Namespace(Change::Is(namespace)) => {
                let name = namespace.metadata.name.clone().unwrap_or_default();
                self.snapshot.namespaces.insert(name, json!(namespace.metadata.labels));
                self.queue.wake(|waits_for| waits_for.pods_changed, now);
            }
            News::Namespace(Change::Gone((_, name))) => {
                self.snapshot.namespaces.remove(&name);
            }
            News::Budget(Change::Is(budget)) => {
                let key = key_of(&budget.metadata);
                match Budget::of(&budget) {
                    Some(known) => self.snapshot.budgets.insert(key, known),
                    None => self.snapshot.budgets.remove(&key),
                };
            }
            News::Budget(Change::Gone(key)) => {
                self.snapshot.budgets.remove(&key);
            }
            News::Pod(Change::Synced)
            | News::Node(Change::Synced)
            | News::Claim(Change::Synced)
            | News::Volume(Change::Synced)
            | News::Class(Change::Synced)
            | News::Namespace(Change::Synced)
            | News::Budget(Change::Synced) => {}
        }
    }

    fn claim_changed(&mut self, claim: &Key) {
        self.unsettled.extend(self.queue.waiting_for(claim).cloned());
    }

    /// The claims that a volume is promised to, by what the API shows or by what we decided.
    fn claims_of_volume_changed(&mut self, name: &str) {
        let volume = self.snapshot.volumes.get(name);
        let shown = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
        let shown = shown.map(|claim| {
            (
                claim.namespace.clone().unwrap_or_default(),
                claim.name.clone().unwrap_or_default(),
            )
        });
        for claim in shown.iter().chain(self.snapshot.promised_claim(name)) {
            self.unsettled.extend(self.queue.waiting_for(claim).cloned());
        }
    }

    fn volumes_changed(&mut self, now: Instant) {
        self.queue.wake(|waits_for| waits_for.volumes, now);
    }

    fn pod_is(&mut self, pod: &Pod, now: Instant) {
        let candidate = Arc::new(Candidate::of(pod));
        let known = self.queue.get(&candidate.key);
        if known.is_some_and(|known| known.candidate.uid != candidate.uid) {
            self.pod_is_gone(&candidate.key, now);
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.pod_is_gone(&candidate.key, now);
        } else if let Some(node) = &candidate.node_name {
            self.queue.remove(&candidate.key);
            let before = self.snapshot.pod(&candidate.key).map(|(_, before)| Arc::clone(before));
            let node = node.clone();
            self.snapshot.set_pod(&node, Arc::clone(&candidate));
            let is_news = before.is_none_or(|before| {
                before.labels != candidate.labels || before.is_terminating != candidate.is_terminating
            });
            if is_news {
                self.queue.wake(|waits_for| waits_for.pods_changed, now);
            }
        } else if is_ours(pod) && !candidate.is_terminating {
            self.pod_is_pending(pod, candidate, now);
        } else {
            self.pod_is_gone(&candidate.key, now);
        }
    }

    fn pod_is_pending(&mut self, pod: &Pod, candidate: Arc<Candidate>, now: Instant) {
        let is_gated = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        let fingerprint = fingerprint(pod);
        let key = candidate.key.clone();
        let nominated = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        // Written by us, maybe before a restart, or by an earlier scheduler.
        if let Some(node) = nominated.filter(|node| !node.is_empty())
            && self.queue.get(&key).is_none()
        {
            self.snapshot.nominate(&candidate, node);
        }
        let Some(known) = self.queue.get_mut(&key) else {
            self.queue.add(candidate, fingerprint, condition(pod), is_gated, now);
            return;
        };
        let is_placed = matches!(known.state, State::Placed { .. });
        // Our own status writes come back here, too: only what a decision depends on is news.
        if known.fingerprint == fingerprint || is_placed {
            return;
        }
        self.queue.remove(&key);
        self.queue.add(candidate, fingerprint, condition(pod), is_gated, now);
    }

    /// The pod is gone, or it uses nothing of a node any more and wants none.
    fn pod_is_gone(&mut self, key: &Key, now: Instant) {
        self.forget(key, now);
        self.queue.remove(key);
        let was_nominated = self.snapshot.withdraw_nomination(key);
        if self.snapshot.remove_pod(key) || was_nominated {
            self.queue
                .wake(|waits_for| waits_for.pods_gone || waits_for.pods_changed, now);
        }
    }
}

fn key_of(metadata: &kube::api::ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn is_ours(pod: &Pod) -> bool {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref())
        .unwrap_or_default();
    name.is_empty() || name == SCHEDULER_NAME
}

/// All of a pod that decisions depend on and that may change: labels and the few mutable parts of the spec.
fn fingerprint(pod: &Pod) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    json!([pod.metadata.labels, pod.spec]).to_string().hash(&mut hasher);
    hasher.finish()
}

fn condition(pod: &Pod) -> Option<Condition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some(Condition {
        status: found.status.clone(),
        reason: found.reason.clone().unwrap_or_default(),
        message: found.message.clone().unwrap_or_default(),
        since: found.last_transition_time.as_ref().map(|time| format!("{:.0}", time.0)),
    })
}
