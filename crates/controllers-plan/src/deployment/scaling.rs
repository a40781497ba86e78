//! Scaling: when the number of replicas changes in the middle of a rollout, all ReplicaSets share in the change.

use api::k8s::api::apps::v1::ReplicaSet;

use super::revisions::{DESIRED_ANNOTATION, MAX_ANNOTATION, annotation};
use super::{Rollout, available};

impl<'a> Rollout<'a> {
    /// Whether the number of replicas is another than when a ReplicaSet was last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let desired = |set: &ReplicaSet| annotation(&set.metadata, DESIRED_ANNOTATION)?.parse::<i32>().ok();
        self.active(self.all())
            .iter()
            .any(|set| desired(set).is_some_and(|desired| desired != self.wanted()))
    }

    /// Those that have replicas.
    pub(super) fn active(&self, sets: impl Iterator<Item = &'a ReplicaSet>) -> Vec<&'a ReplicaSet> {
        sets.filter(|set| self.size(set) > 0).collect()
    }

    /// Brings all ReplicaSets together to the wanted size.
    pub(super) fn scale(&mut self) {
        if let Some(only) = self.active_or_latest() {
            self.resize(only, self.wanted());
            return;
        }
        if self.new.is_some_and(|new| self.is_saturated(new)) {
            for set in self.active(self.old.clone().into_iter()) {
                self.resize(set, 0);
            }
        } else if self.is_rolling() {
            self.scale_in_proportion();
        }
    }

    /// The only one with replicas; if none has any, the new one or else the latest. `None` if several have some.
    fn active_or_latest(&self) -> Option<&'a ReplicaSet> {
        let active = self.active(self.all());
        match active.as_slice() {
            [] => self.new.or_else(|| self.old.last().copied()),
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the new one has all that is wanted.
    fn is_saturated(&self, new: &ReplicaSet) -> bool {
        let desired = annotation(&new.metadata, DESIRED_ANNOTATION).and_then(|text| text.parse::<i32>().ok());
        [Some(self.size(new)), desired, Some(available(new))]
            .into_iter()
            .all(|count| count == Some(self.wanted()))
    }

    /// What is to be added or taken away is shared out in proportion to size; what does not divide goes to the first.
    fn scale_in_proportion(&mut self) {
        let mut sets = self.active(self.all());
        let allowed = if self.wanted() > 0 { self.size_max() } else { 0 };
        let to_add = allowed - sets.iter().map(|set| self.size(set)).sum::<i32>();
        let born = |set: &ReplicaSet| {
            let born = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (born, set.metadata.name.clone())
        };
        // The largest first; of equal ones the newer when growing, the older when shrinking.
        sets.sort_by(|a, b| {
            let by_age = if to_add > 0 {
                born(b).cmp(&born(a))
            } else {
                born(a).cmp(&born(b))
            };
            self.size(b).cmp(&self.size(a)).then(by_age)
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for set in &sets {
            let share = self.share(set, to_add, added);
            added += share;
            sizes.push(self.size(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (set, size) in sets.into_iter().zip(sizes) {
            self.resize(set, size);
        }
    }

    fn share(&self, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
        let (size, rest) = (self.size(set), to_add - added);
        if size == 0 || to_add == 0 || rest == 0 {
            return 0;
        }
        let fraction = self.fraction(set, size);
        if to_add > 0 {
            fraction.min(rest)
        } else {
            fraction.max(rest)
        }
    }

    /// How much a ReplicaSet would grow if all kept their part of the whole.
    fn fraction(&self, set: &ReplicaSet, size: i32) -> i32 {
        if self.wanted() == 0 {
            return -size;
        }
        let known = annotation(&set.metadata, MAX_ANNOTATION).and_then(|text| text.parse::<i64>().ok());
        let whole = known
            .filter(|known| *known > 0)
            .unwrap_or_else(|| i64::from(self.status.replicas_before()));
        if whole <= 0 {
            return 0;
        }
        // Rounded half up: sizes are not negative.
        let grown = (i64::from(size) * i64::from(self.size_max()) * 2 + whole).div_euclid(whole * 2);
        i32::try_from(grown).unwrap_or(i32::MAX) - size
    }
}
