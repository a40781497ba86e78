//! What is known of one namespace, and what people should be told when it changes.

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use controllers_plan::statefulset::{self, Gates, Observed};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;

/// A watch event of one of the kinds shown.
pub(crate) enum Change {
    /// Of a StatefulSet.
    Set(Event<StatefulSet>),
    /// Of a pod.
    Pod(Event<Pod>),
    /// Of a claim.
    Claim(Event<PersistentVolumeClaim>),
    /// Of a revision; never told, only needed to say what is waited for.
    Revision(Event<ControllerRevision>),
}

/// What is known of one namespace.
pub(crate) struct Scene {
    /// StatefulSets by name.
    pub(crate) sets: BTreeMap<String, StatefulSet>,
    /// Pods by name.
    pub(crate) pods: BTreeMap<String, Pod>,
    /// Claims by name.
    pub(crate) claims: BTreeMap<String, PersistentVolumeClaim>,
    revisions: BTreeMap<String, ControllerRevision>,
    cluster_domain: String,
    unknown: usize,
}

impl Scene {
    /// Nothing known yet.
    pub(crate) fn new(cluster_domain: &str) -> Self {
        Self {
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            revisions: BTreeMap::new(),
            cluster_domain: cluster_domain.to_owned(),
            unknown: 4,
        }
    }

    /// Kinds of which not everything that exists is known yet.
    pub(crate) fn unknown(&self) -> usize {
        self.unknown
    }

    /// Takes in a change; returns what to tell of it.
    pub(crate) fn take(&mut self, change: Change) -> Vec<String> {
        match change {
            Change::Set(event) => keep(&mut self.sets, event, &mut self.unknown, tell_set),
            Change::Pod(event) => keep(&mut self.pods, event, &mut self.unknown, tell_pod),
            Change::Claim(event) => keep(&mut self.claims, event, &mut self.unknown, tell_claim),
            Change::Revision(event) => keep(&mut self.revisions, event, &mut self.unknown, |_, _| Vec::new()),
        }
    }

    /// Whether a StatefulSet is as its spec wants it: all pods there, Ready, at the newest revision.
    pub(crate) fn is_rolled_out(&self, set: &str) -> bool {
        let Some(set) = self.sets.get(set) else { return false };
        let want = wanted(set);
        set.status.as_ref().is_some_and(|status| {
            status.observed_generation == set.metadata.generation
                && status.replicas == want
                && status.ready_replicas.unwrap_or(0) == want
                && status.updated_replicas.unwrap_or(0) == want
        })
    }

    /// A pod's address, if it has one.
    pub(crate) fn address(&self, pod: &str) -> Option<String> {
        self.pods.get(pod)?.status.as_ref()?.pod_ip.clone()
    }

    /// The state of each StatefulSet and its pods, a line each.
    pub(crate) fn status(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, set) in &self.sets {
            let ready = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
            let revision = set
                .status
                .as_ref()
                .and_then(|s| s.update_revision.clone())
                .unwrap_or_default();
            lines.push(format!("  ── {name}  {ready}/{} ready  {revision}", wanted(set)));
            for (pod_name, pod) in self.pods.iter().filter(|(_, pod)| is_owned_by(pod, set)) {
                lines.push(self.pod_line(pod_name, pod, set));
            }
            let waits = self.waits(set);
            lines.extend(waits.into_iter().map(|sentence| format!("     … {sentence}")));
        }
        lines
    }

    fn pod_line(&self, name: &str, pod: &Pod, set: &StatefulSet) -> String {
        let mark = if is_ready(pod) { '●' } else { '○' };
        let address = self.address(name).unwrap_or_else(|| "-".to_owned());
        let claims: Vec<String> = claims_of(pod)
            .into_iter()
            .map(|claim| self.claim_words(&claim))
            .collect();
        let dns = match (is_ready(pod), &set.spec.as_ref().and_then(|s| s.service_name.clone())) {
            (true, Some(service)) => {
                let namespace = pod.namespace().unwrap_or_default();
                format!("{name}.{service}.{namespace}.svc.{}", self.cluster_domain)
            }
            _ => String::new(),
        };
        format!(
            "  {mark} {name:<10} {:<18} {address:<15} {:<26} {dns}",
            phase(pod),
            claims.join(" ")
        )
    }

    fn claim_words(&self, claim: &str) -> String {
        match self.claims.get(claim).and_then(volume) {
            Some(_) => format!("{claim} bound"),
            None => format!("{claim} pending"),
        }
    }

    /// What the set's next steps wait for, in the planner's own words.
    fn waits(&self, set: &StatefulSet) -> Vec<String> {
        let Some(template) = set
            .spec
            .as_ref()
            .and_then(|spec| serde_json::to_value(&spec.template).ok())
        else {
            return Vec::new();
        };
        let seen = Observed {
            set,
            template: &template,
            pods: self.pods.values().collect(),
            claims: self.claims.values().collect(),
            revisions: self.revisions.values().collect(),
            service: None,
            early_ends: &BTreeMap::new(),
            gates: Gates::default(),
        };
        let reasons = statefulset::because(&seen, Timestamp::now());
        reasons
            .into_iter()
            .filter(|reason| reason.waits_for.is_some())
            .map(|reason| reason.message)
            .collect()
    }
}

/// Keeps the newest state of each object and tells what changed. Restarts of a watch tell only real differences.
fn keep<K: ResourceExt>(
    known: &mut BTreeMap<String, K>,
    event: Event<K>,
    unknown: &mut usize,
    tell: impl Fn(Option<&K>, Option<&K>) -> Vec<String>,
) -> Vec<String> {
    match event {
        Event::Init => Vec::new(),
        Event::InitDone => {
            *unknown = unknown.saturating_sub(1);
            Vec::new()
        }
        Event::InitApply(object) | Event::Apply(object) => {
            let name = object.name_any();
            let lines = tell(known.get(&name), Some(&object));
            known.insert(name, object);
            lines
        }
        Event::Delete(object) => {
            known.remove(&object.name_any());
            tell(Some(&object), None)
        }
    }
}

fn tell_set(old: Option<&StatefulSet>, new: Option<&StatefulSet>) -> Vec<String> {
    let line = |set: &StatefulSet, words: String| vec![format!("{:<12} {words}", set.name_any())];
    match (old, new) {
        (None, Some(set)) => line(set, format!("StatefulSet of {}", wanted(set))),
        (Some(old), Some(new)) if wanted(old) != wanted(new) => {
            line(new, format!("scaled from {} to {}", wanted(old), wanted(new)))
        }
        (Some(old), None) => line(old, "StatefulSet is gone".to_owned()),
        _ => Vec::new(),
    }
}

fn tell_claim(old: Option<&PersistentVolumeClaim>, new: Option<&PersistentVolumeClaim>) -> Vec<String> {
    let (before, now) = (old.and_then(volume), new.and_then(volume));
    match (new, before, now) {
        (Some(claim), None, Some(volume)) => vec![format!("{:<12} claim bound to volume {volume}", claim.name_any())],
        (Some(claim), ..) if old.is_none() => vec![format!("{:<12} claim made", claim.name_any())],
        (None, ..) => old
            .map(|claim| format!("{:<12} claim is gone", claim.name_any()))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

fn tell_pod(old: Option<&Pod>, new: Option<&Pod>) -> Vec<String> {
    let Some(pod) = new else {
        return old
            .map(|pod| format!("{:<12} is gone", pod.name_any()))
            .into_iter()
            .collect();
    };
    let mut words = Vec::new();
    if old.is_none_or(|old| old.uid() != pod.uid()) {
        words.push("created".to_owned());
    }
    let old = old.filter(|old| old.uid() == pod.uid());
    let was = |test: fn(&Pod) -> bool| old.is_some_and(test);
    let address = |pod: &Pod| pod.status.as_ref().and_then(|s| s.pod_ip.clone());
    if let Some(ip) = address(pod).filter(|_| old.and_then(address).is_none()) {
        words.push(format!("has the address {ip}"));
    }
    if let Some(trouble) = trouble(pod).filter(|t| old.and_then(trouble_of).as_ref() != Some(t)) {
        words.push(trouble);
    }
    match (was(is_ready), is_ready(pod)) {
        (false, true) => words.push("is Ready".to_owned()),
        (true, false) if pod.metadata.deletion_timestamp.is_none() => words.push("is no longer Ready".to_owned()),
        _ => {}
    }
    if pod.metadata.deletion_timestamp.is_some() && !was(|old| old.metadata.deletion_timestamp.is_some()) {
        words.push("is being stopped".to_owned());
    }
    words
        .into_iter()
        .map(|w| format!("{:<12} {w}", pod.name_any()))
        .collect()
}

fn trouble_of(pod: &Pod) -> Option<String> {
    trouble(pod)
}

/// Why a container does not run, if that is more than "not yet".
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    all.filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting
            .reason
            .as_deref()
            .filter(|r| !["ContainerCreating", "PodInitializing"].contains(r))?;
        Some(format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default()))
    })
    .next()
}

/// Whether the pod's condition Ready is True.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn phase(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "stopping".to_owned();
    }
    let waiting = trouble(pod).and_then(|t| t.split(':').next().map(str::to_owned));
    let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    waiting.unwrap_or(if is_ready(pod) { "Ready".to_owned() } else { phase })
}

fn wanted(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn is_owned_by(pod: &Pod, set: &StatefulSet) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}

fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .filter_map(|v| Some(v.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect()
}

/// The volume a claim is bound to.
fn volume(claim: &PersistentVolumeClaim) -> Option<String> {
    let bound = claim.status.as_ref()?.phase.as_deref() == Some("Bound");
    claim.spec.as_ref()?.volume_name.clone().filter(|_| bound)
}
