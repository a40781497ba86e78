//! One stride of a rollout: the new ReplicaSet grows as far as there is room, or the old ones shrink as far as enough
//! pods are available.

use api::k8s::api::apps::v1::ReplicaSet;

use crate::pods::{has_ended, name_of};
use crate::{Action, Reason, Step, Target, controller_of, is_terminating};

use super::{Rollout, actual, available};

impl<'a> Rollout<'a> {
    /// Rolls on by the Deployment's strategy.
    pub(super) fn roll_out(&mut self) {
        if self.is_rolling() {
            self.roll();
        } else {
            self.recreate();
        }
        if self.draft.steps.is_empty() {
            self.status
                .conclude_rollout(self.seen, self.spec, self.all(), self.new, self.max_unavailable());
            self.tell_what_is_missing();
        }
    }

    /// Without anything of a rollout.
    pub(super) fn status_only(&mut self) {
        self.status
            .count(self.spec, self.all(), self.new, self.max_unavailable());
    }

    fn roll(&mut self) {
        let Some(new) = self.new else {
            return self.create_new();
        };
        if self.grow(new) || self.shrink_old(new) {
            return;
        }
        if self.status.is_complete(self.spec) {
            self.forget_history();
        }
    }

    fn grow(&mut self, new: &'a ReplicaSet) -> bool {
        let (size, wanted) = (self.size(new), self.wanted());
        if size >= wanted {
            return size > wanted && self.resize(new, wanted);
        }
        let room = self.size_max() - self.total_size();
        room > 0 && self.resize(new, size + room.min(wanted - size))
    }

    /// First those pods go that are of no use anyway, then as many of the others as can be spared.
    fn shrink_old(&mut self, new: &'a ReplicaSet) -> bool {
        let old = self.active(self.old.clone().into_iter());
        let available_min = self.wanted() - self.max_unavailable();
        let unavailable_new = self.size(new) - self.lasting(new);
        let mut spare = self.total_size() - available_min - unavailable_new;
        if old.is_empty() || spare <= 0 {
            return false;
        }
        let mut has_shrunk = false;
        for set in &old {
            let useless = (self.size(set) - self.lasting(set)).clamp(0, spare.max(0));
            if useless > 0 {
                has_shrunk |= self.resize(set, self.size(set) - useless);
                spare -= useless;
            }
        }
        let mut spare = self.all().map(|set| self.lasting(set)).sum::<i32>() - available_min;
        for set in &old {
            let goes = self.size(set).min(spare.max(0));
            if goes > 0 {
                has_shrunk |= self.resize(set, self.size(set) - goes);
                spare -= goes;
            }
        }
        has_shrunk
    }

    /// How many of a ReplicaSet's pods are available and will be: its status may still count pods that its spec gives up.
    fn lasting(&self, set: &ReplicaSet) -> i32 {
        available(set).min(self.size(set))
    }

    /// All old pods must have ended before the first new one is made.
    fn recreate(&mut self) {
        let old = self.active(self.old.clone().into_iter());
        for set in &old {
            self.resize(set, 0);
        }
        if !old.is_empty() || self.old_pods_run() {
            return;
        }
        match self.new {
            None => self.create_new(),
            Some(new) if self.size(new) != self.wanted() => {
                self.resize(new, self.wanted());
            }
            Some(_) if self.status.is_complete(self.spec) => self.forget_history(),
            Some(_) => {}
        }
    }

    fn old_pods_run(&self) -> bool {
        let new_uid = self.new.and_then(|new| new.metadata.uid.as_deref());
        let is_old = |owner: Option<&str>| owner != new_uid;
        self.old.iter().any(|set| actual(set) > 0)
            || self.seen.pods.iter().any(|pod| {
                let owner = controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
                is_old(owner) && !has_ended(pod)
            })
    }

    /// Deletes ReplicaSets beyond the history that is to be kept, the oldest first, unless they still have pods.
    pub(super) fn forget_history(&mut self) {
        let limit = self.spec.revision_history_limit.unwrap_or(10);
        if limit == i32::MAX {
            return;
        }
        let kept: Vec<_> = self
            .old
            .iter()
            .copied()
            .filter(|set| !is_terminating(&set.metadata))
            .collect();
        let surplus = kept.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for set in &kept[..surplus] {
            let observed = set.status.as_ref().and_then(|status| status.observed_generation);
            if actual(set) == 0 && self.size(set) == 0 && set.metadata.generation <= observed {
                let name = name_of(&set.metadata);
                let message = format!("{name} is history beyond revisionHistoryLimit {limit}");
                self.draft.because.push(Reason::acts(name, "ForgetsHistory", message));
                self.draft.steps.push(Step::One(Action::delete(Target::of(*set))));
            }
        }
    }

    fn tell_what_is_missing(&mut self) {
        let name = self.owner.name();
        for set in self.all() {
            let (size, available) = (self.size(set), available(set));
            if available < size && self.changes.is_empty() {
                let set = name_of(&set.metadata);
                let message = format!("{name} waits for {set}: {available} of {size} pods are available");
                self.draft
                    .because
                    .push(Reason::waits(name, "WaitsForAvailability", set, message));
            }
        }
    }
}
