//! Making and removing a job's pods: as many as may run, none too early after a failure.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use jiff::Timestamp;

use crate::names::{FreshNames, cut};
use crate::pods::{self, is_shutting_down, name_of};
use crate::replicaset::victims;
use crate::{Action, Reason, Step};

use super::indexes::{INDEX_KEY, Indexes, index_of};
use super::policy::judge;
use super::tally::{
    INDEX_FAILURES, INDEX_IGNORED_FAILURES, index_failures, is_failed, is_indexed, replaces_only_failed, size,
    valid_index,
};
use super::{TRACKING_FINALIZER, Work, backoff, has_finalizer};

/// How many pods one plan makes or removes at most; their events bring on the next plan.
const BURST: usize = 500;

/// The variable that tells containers their index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

impl Work<'_> {
    /// Brings the number of running pods to what it should be; either removes or creates.
    pub(super) fn manage(&mut self) {
        let active = size(self.tally.active.len());
        let wanted = if self.is_suspended() { 0 } else { self.wanted() };
        let surplus = self.surplus(usize::try_from(active - wanted).unwrap_or(0));
        if !surplus.is_empty() {
            return self.remove(&surplus);
        }
        if self.is_suspended() {
            return;
        }
        let leaving = if replaces_only_failed(self.spec) {
            self.tally.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - leaving - active).unwrap_or(0).min(BURST);
        if missing == 0 {
            return;
        }
        if self.spec.backoff_limit_per_index.is_none() || !is_indexed(self.spec) {
            let ends_at = backoff::ends_at(&self.tally.pods, |pod| is_failed(self.spec, pod), self.now);
            if let Some(at) = ends_at.filter(|at| *at > self.now) {
                return self.wait(at);
            }
        }
        if is_indexed(self.spec) {
            self.create_indexed(missing)
        } else {
            self.create_any(missing)
        }
    }

    /// How many pods may run.
    fn wanted(&self) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        match self.spec.completions {
            // Once one has succeeded, the others are left to end.
            None if self.tally.succeeded > 0 => size(self.tally.active.len()),
            None => parallelism,
            Some(completions) => (completions - self.tally.succeeded).clamp(0, parallelism),
        }
    }

    /// The pods that have to go: those without a proper index of their own, then the least useful.
    fn surplus(&self, at_least: usize) -> Vec<Pod> {
        let (mut surplus, mut left) = (Vec::new(), Vec::new());
        if is_indexed(self.spec) {
            let mut by_index: BTreeMap<i32, Vec<&Pod>> = BTreeMap::new();
            for pod in &self.tally.active {
                match valid_index(self.spec, pod) {
                    Some(index) => by_index.entry(index).or_default().push(pod),
                    None => surplus.push(*pod),
                }
            }
            for pods in by_index.values() {
                let ranked = victims::choose(pods, &[], pods.len(), self.now);
                surplus.extend(&ranked[..ranked.len() - 1]);
                left.extend(ranked.last());
            }
        } else {
            left.clone_from(&self.tally.active);
        }
        if surplus.len() < at_least {
            surplus.extend(victims::choose(&left, &[], at_least - surplus.len(), self.now));
        }
        surplus.truncate(BURST);
        surplus.into_iter().cloned().collect()
    }

    /// What is removed does not count, so its finalizer goes first.
    fn remove(&mut self, surplus: &[Pod]) {
        let name = self.owner.name();
        let mut chains = Vec::new();
        for pod in surplus {
            let mut chain: Vec<Action> = Vec::new();
            if has_finalizer(pod) {
                chain.push(super::without_finalizer(pod));
            }
            chain.push(pods::delete(self.owner, pod));
            chains.push(chain);
            let pod = name_of(&pod.metadata);
            let message = if self.is_suspended() {
                format!("{pod} is deleted: {name} is suspended")
            } else {
                format!("{pod} is deleted: {name} has more pods than may run")
            };
            self.draft.because.push(Reason::acts(pod, "Deletes", message));
        }
        self.draft.steps.push(Step::Together(chains));
    }

    fn wait(&mut self, at: Timestamp) {
        let name = self.owner.name();
        let message = format!("{name} waits until {at} before it replaces pods that have failed");
        self.draft.because.push(Reason::waits(name, "BackOff", name, message));
        self.again_at(at);
    }

    fn again_at(&mut self, at: Timestamp) {
        self.draft.again_at = self.draft.again_at.into_iter().chain([at]).min();
    }

    fn create_any(&mut self, count: usize) {
        let taken: Vec<&str> = self.tally.pods.iter().map(|pod| name_of(&pod.metadata)).collect();
        let mut names = FreshNames::new(
            &format!("{}-", self.owner.name()),
            self.owner.uid(),
            self.now,
            taken.into_iter(),
        );
        let pods = (0..count).map(|_| self.pod(names.next())).collect();
        self.create(pods);
    }

    fn create_indexed(&mut self, count: usize) {
        let mut busy = self.tally.done_indexes.clone();
        let terminating = self
            .tally
            .pods
            .iter()
            .filter(|pod| replaces_only_failed(self.spec) && is_shutting_down(pod));
        for index in self
            .tally
            .active
            .iter()
            .chain(terminating)
            .filter_map(|pod| index_of(pod))
        {
            busy.insert(index);
        }
        let busy = busy.union(&self.tally.failed_indexes.clone().unwrap_or_default());
        let mut pods = Vec::new();
        for index in self.free(&busy, count) {
            let predecessor = self.tally.awaiting_successor(self.spec, index);
            let (failures, ignored) = predecessor.map(index_failures).unwrap_or_default();
            let failed_at = predecessor.map(|pod| backoff::finished_at(pod, self.now));
            let times = usize::try_from(failures + ignored + 1).unwrap_or(1);
            let may_be_at = failed_at.and_then(|at| backoff::after(at, times));
            match may_be_at.filter(|at| *at > self.now) {
                Some(at) => self.wait(at),
                None => pods.push(self.indexed_pod(index, predecessor)),
            }
        }
        self.create(pods);
    }

    fn free(&self, busy: &Indexes, count: usize) -> Vec<i32> {
        busy.first_missing(count, self.spec.completions.unwrap_or(0))
    }

    fn create(&mut self, pods: Vec<Pod>) {
        let name = self.owner.name();
        let mut chains = Vec::new();
        for pod in &pods {
            chains.push(vec![pods::create(self.owner, pod)]);
            let pod = name_of(&pod.metadata);
            self.draft.because.push(Reason::acts(
                pod,
                "Creates",
                format!("{pod} is created: {name} may run it"),
            ));
        }
        if !chains.is_empty() {
            self.draft.steps.push(Step::Together(chains));
        }
    }

    fn pod(&self, name: String) -> Pod {
        let mut pod = pods::from_template(self.owner, &self.spec.template, name);
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if finalizers.iter().all(|known| known != TRACKING_FINALIZER) {
            finalizers.push(TRACKING_FINALIZER.to_owned());
        }
        pod
    }

    fn indexed_pod(&self, index: i32, predecessor: Option<&Pod>) -> Pod {
        let suffix = format!("-{index}-");
        // 58 letters leave place for the five that follow.
        let prefix = format!("{}{suffix}", cut(self.owner.name(), 58 - suffix.len()));
        let taken = self.tally.pods.iter().map(|pod| name_of(&pod.metadata));
        let name = FreshNames::new(&prefix, self.owner.uid(), self.now, taken).next();
        let mut pod = self.pod(name);
        pod.metadata.generate_name = Some(prefix);
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(INDEX_KEY.to_owned(), index.to_string());
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX_KEY.to_owned(), index.to_string());
        if self.spec.backoff_limit_per_index.is_some() {
            let (mut failures, mut ignored) = predecessor.map(index_failures).unwrap_or_default();
            match predecessor.map(|pod| judge(self.spec.pod_failure_policy.as_ref(), pod).counts()) {
                Some(true) => failures += 1,
                Some(false) => ignored += 1,
                None => {}
            }
            annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
            if ignored > 0 {
                annotations.insert(INDEX_IGNORED_FAILURES.to_owned(), ignored.to_string());
            }
        }
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(format!("{}-{index}", self.owner.name()));
            let containers = spec
                .containers
                .iter_mut()
                .chain(spec.init_containers.iter_mut().flatten());
            for container in containers {
                let variables = container.env.get_or_insert_default();
                if variables.iter().all(|known| known.name != INDEX_VARIABLE) {
                    variables.push(index_variable());
                }
            }
        }
        pod
    }
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX_KEY}']"),
    };
    EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    }
}
