//! The next step of an update: old pods go, as many as may be missing at a time; or new ones come before they go.

use std::collections::BTreeSet;

use api::k8s::api::core::v1::Pod;

use crate::is_terminating;
use crate::pods::{name_of, scaled};

use super::Work;

/// The pods of a node: the new one and the old one. `None` if there are several of either.
type Pair<'a> = Option<(Option<&'a Pod>, Option<&'a Pod>)>;

impl<'a> Work<'a> {
    pub(super) fn allows_surge(&self) -> bool {
        self.is_rolling() && self.limits(i32::MAX / 100).0 > 0
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy
            .and_then(|strategy| strategy.type_.as_deref())
            .unwrap_or("RollingUpdate")
            == "RollingUpdate"
    }

    /// How many pods there may be beyond one a node, and how many nodes may be without.
    fn limits(&self, desired: i32) -> (i32, i32) {
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), desired, true);
        let unavailable = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
            Some(limit) => scaled(Some(limit), desired, true),
            None => 1,
        };
        // Both zero would let nothing move.
        (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
    }

    /// The nodes that get a pod before their old one goes, and the pods that go.
    pub(super) fn update(&mut self) -> (BTreeSet<&'a str>, Vec<(&'a Pod, String)>) {
        if !self.is_rolling() {
            return (BTreeSet::new(), Vec::new());
        }
        let mut nodes: BTreeSet<&str> = self.pods.keys().copied().collect();
        let wanted = self.seen.nodes.iter().filter(|node| self.should_run(node).0);
        let wanted: Vec<&str> = wanted.map(|node| name_of(&node.metadata)).collect();
        let desired = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
        nodes.extend(wanted);
        match self.limits(desired) {
            (0, unavailable) => (BTreeSet::new(), self.replace(&nodes, unavailable)),
            (surge, _) => self.surge(&nodes, surge),
        }
    }

    fn pair(&self, node: &str) -> Pair<'a> {
        let (mut new, mut old) = (None, None);
        let live = self
            .pods
            .get(node)
            .into_iter()
            .flatten()
            .filter(|pod| !is_terminating(&pod.metadata));
        for &pod in live {
            let place = if self.is_updated(pod) { &mut new } else { &mut old };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some((new, old))
    }

    /// Old pods that do not serve go at once, others as far as nodes may be without.
    fn replace(&self, nodes: &BTreeSet<&'a str>, unavailable_max: i32) -> Vec<(&'a Pod, String)> {
        let (mut unavailable, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for node in nodes {
            match self.pair(node) {
                Some((None, Some(old))) if self.is_available(old) => candidates.push(old),
                Some((None, Some(old))) => useless.push(old),
                Some((Some(new), None)) if self.is_available(new) => {}
                _ => unavailable += 1,
            }
        }
        let spare = usize::try_from(unavailable_max - unavailable).unwrap_or(0);
        let go = useless.into_iter().chain(candidates.into_iter().take(spare));
        go.map(|pod| (pod, "it is of an older revision".to_owned())).collect()
    }

    /// Nodes whose old pod does not serve get a new one at once, others as far as there may be more; old pods go when
    /// the new one serves.
    fn surge(&self, nodes: &BTreeSet<&'a str>, surge_max: i32) -> (BTreeSet<&'a str>, Vec<(&'a Pod, String)>) {
        let (mut surge, mut useless, mut candidates, mut delete) = (0, Vec::new(), Vec::new(), Vec::new());
        for &node in nodes {
            match self.pair(node) {
                None => surge += 1,
                Some((_, None)) => {}
                Some((None, Some(old))) if self.is_available(old) => candidates.push(node),
                Some((None, Some(_))) => useless.push(node),
                Some((Some(new), Some(old))) if self.is_available(new) => {
                    delete.push((old, "its successor serves".to_owned()));
                }
                Some((Some(_), Some(_))) => surge += 1,
            }
        }
        let spare = usize::try_from(surge_max - surge).unwrap_or(0);
        let create = useless.into_iter().chain(candidates.into_iter().take(spare));
        (create.collect(), delete)
    }
}
