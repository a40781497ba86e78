//! Deployments: one ReplicaSet for each template there has been, the newest of them grown while the others shrink.
//!
//! [`plan`] in order: whose ReplicaSets are they, which of them is the new one ([`revisions`]), is there a rollback to
//! do ([`rollback`]), has only the number of replicas changed ([`scaling`]), else one stride of the rollout
//! ([`rollout`]), and what to say of it ([`status`]).

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use api::k8s::api::core::v1::Pod;
use jiff::Timestamp;

use crate::claiming::Owner;
use crate::pods::{name_of, scaled};
use crate::selection::Selection;
use crate::{Plan, Reason, is_terminating};

mod change;
mod revisions;
mod rollback;
mod rollout;
mod scaling;
mod status;

pub use revisions::{HASH_LABEL, REVISION_ANNOTATION};

use change::Changes;
use status::Status;

/// All that a decision about one Deployment rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it controls, those of nobody, and those that bear a name of its own.
    pub replica_sets: Vec<&'a ReplicaSet>,
    /// The pods of its ReplicaSets; only the strategy `Recreate` looks at them.
    pub pods: Vec<&'a Pod>,
    /// What the server said when the last plan was carried out, if that failed.
    pub failure: Option<String>,
}

/// Decides what to do next about a Deployment.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let owner = Owner::of(seen.deployment);
    let Some(spec) = seen
        .deployment
        .spec
        .as_ref()
        .filter(|spec| !crate::selection::is_empty(&spec.selector))
    else {
        let message = format!(
            "{} waits for a selector that selects something in particular",
            owner.name()
        );
        return Plan {
            because: vec![Reason::waits(owner.name(), "InvalidSelector", owner.name(), message)],
            ..Plan::default()
        };
    };
    let mut claim = owner.claim(Selection::Selector(&spec.selector), &seen.replica_sets);
    if let Some(plan) = claim.plan() {
        return plan;
    }
    let mut rollout = Rollout::new(seen, spec, claim.own, now);
    rollout.decide();
    rollout.finish()
}

/// Work on one Deployment: what is known, and what has been decided so far.
struct Rollout<'a> {
    seen: &'a Observed<'a>,
    spec: &'a DeploymentSpec,
    owner: Owner<'a>,
    /// Its ReplicaSets but the new one, the oldest first.
    old: Vec<&'a ReplicaSet>,
    /// The one of the Deployment's template.
    new: Option<&'a ReplicaSet>,
    /// What is to become of them.
    changes: Changes<'a>,
    status: Status<'a>,
    draft: Plan,
}

impl<'a> Rollout<'a> {
    fn new(seen: &'a Observed<'a>, spec: &'a DeploymentSpec, mut own: Vec<&'a ReplicaSet>, now: Timestamp) -> Self {
        own.sort_by_key(|set| {
            let born = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (born, set.metadata.name.as_deref())
        });
        let new = own
            .iter()
            .copied()
            .find(|set| revisions::is_of_template(set, &spec.template));
        own.retain(|set| new.is_none_or(|new| new.metadata.uid != set.metadata.uid));
        Self {
            seen,
            spec,
            owner: Owner::of(seen.deployment),
            old: own,
            new,
            changes: Changes::default(),
            status: Status::of(seen.deployment, now),
            draft: Plan::default(),
        }
    }

    fn decide(&mut self) {
        if is_terminating(self.owner.meta) {
            self.sync_revision();
            return self.status_only();
        }
        self.status.note_pause(self.spec);
        if self.is_paused() {
            self.sync_revision();
            self.scale();
            self.forget_history();
            return self.status_only();
        }
        if self.roll_back() {
            return;
        }
        self.sync_revision();
        if self.is_scaling() {
            self.scale();
            return self.status_only();
        }
        self.roll_out();
    }

    fn finish(mut self) -> Plan {
        self.changes.conclude(self.owner, &mut self.draft);
        self.status.conclude(&mut self.draft);
        self.draft
    }

    fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.spec.strategy.as_ref();
        strategy
            .and_then(|strategy| strategy.type_.as_deref())
            .unwrap_or("RollingUpdate")
            == "RollingUpdate"
    }

    /// How many pods are wanted.
    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// How many pods there may be beyond those wanted, and how many of those wanted may be missing.
    fn fenceposts(&self) -> (i32, i32) {
        if !self.is_rolling() {
            return (0, 0);
        }
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = scaled(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            self.wanted(),
            true,
        );
        let unavailable = scaled(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            self.wanted(),
            false,
        );
        // Both zero would let nothing move; percentages of few pods can come to that.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        (surge, unavailable.min(self.wanted()))
    }

    fn max_surge(&self) -> i32 {
        self.fenceposts().0
    }

    fn max_unavailable(&self) -> i32 {
        self.fenceposts().1
    }

    /// How many pods there may be at most.
    fn size_max(&self) -> i32 {
        self.wanted() + self.max_surge()
    }

    /// All ReplicaSets, the new one last.
    fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> + Clone + use<'a> {
        let new = self.new;
        self.old.clone().into_iter().chain(new)
    }

    /// The number of replicas that a ReplicaSet has, or has just been given.
    fn size(&self, set: &ReplicaSet) -> i32 {
        self.changes.size(set)
    }

    fn total_size(&self) -> i32 {
        self.all().map(|set| self.size(set)).sum()
    }

    /// Gives a ReplicaSet another number of replicas; true if that is a change.
    fn resize(&mut self, set: &'a ReplicaSet, size: i32) -> bool {
        let annotations = BTreeMap::from([
            (revisions::DESIRED_ANNOTATION, self.wanted().to_string()),
            (revisions::MAX_ANNOTATION, self.size_max().to_string()),
        ]);
        let before = self.size(set);
        for (key, value) in annotations {
            self.changes.annotate(set, key, value);
        }
        if before == size {
            return false;
        }
        self.changes.resize(set, size);
        let name = name_of(&set.metadata);
        let message = format!("{name} is scaled from {before} to {size}");
        self.draft.because.push(Reason::acts(name, "Scales", message));
        true
    }
}

fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}
