//! What the controllers were told of one kind, as it became known to them.
//!
//! A controller plans from its caches as they are at one moment, and its writes follow within a while. So a write is
//! held against all the moments of that while: [`Told::moments`] are the caches as they were, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A plan is carried out within this time, with every request late and one belated.
pub(super) const WHILE: Duration = Duration::from_secs(30);

/// The objects of a kind as they were known at a moment, by name.
pub(super) type Known = BTreeMap<String, Arc<Value>>;

/// A time during which nothing new became known; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Span {
    pub(super) fn touches(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// What was known a while ago, and what has become known since.
#[derive(Default)]
pub(super) struct Told {
    known: Known,
    since: Duration,
    news: VecDeque<(Duration, String, Option<Arc<Value>>)>,
}

impl Told {
    /// An object became known; `None` is its end.
    pub(super) fn learn(&mut self, at: Duration, name: &str, state: Option<Arc<Value>>) {
        self.news.push_back((at, name.to_owned(), state));
        // What the second oldest replaced was over before the while began.
        while self.news.front().is_some_and(|(since, ..)| *since + WHILE < at) {
            let (since, name, state) = self.news.pop_front().expect("there is a first");
            update(&mut self.known, &name, state.as_ref());
            self.since = since;
        }
    }

    /// A list became known: first what it names, then that all else is gone, as a cache takes it.
    pub(super) fn learn_list(&mut self, at: Duration, list: Vec<(String, Arc<Value>)>) {
        let mut gone = self.latest();
        for (name, state) in list {
            gone.remove(&name);
            self.learn(at, &name, Some(state));
        }
        for name in gone.into_keys() {
            self.learn(at, &name, None);
        }
    }

    fn latest(&self) -> Known {
        let mut latest = self.known.clone();
        for (_, name, state) in &self.news {
            update(&mut latest, name, state.as_ref());
        }
        latest
    }

    /// Whether `test` holds of what was known at any moment of the last while.
    pub(super) fn moments(&self, at: Duration, mut test: impl FnMut(Span, &Known) -> bool) -> bool {
        let mut known = self.known.clone();
        let mut from = self.since;
        for (next, name, state) in &self.news {
            let span = Span { from, to: *next };
            if span.to + WHILE >= at && test(span, &known) {
                return true;
            }
            update(&mut known, name, state.as_ref());
            from = *next;
        }
        test(Span { from, to: at }, &known)
    }
}

fn update(known: &mut Known, name: &str, state: Option<&Arc<Value>>) {
    match state {
        Some(state) => drop(known.insert(name.to_owned(), state.clone())),
        None => drop(known.remove(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// All that was known of `a` in the last while.
    fn states(told: &Told, at: u64) -> Vec<Option<Value>> {
        let mut states = Vec::new();
        told.moments(s(at), |_, known| {
            states.push(known.get("a").map(|state| state.as_ref().clone()));
            false
        });
        states
    }

    fn told(news: &[(u64, Option<u64>)]) -> Told {
        let mut told = Told::default();
        for (at, state) in news {
            told.learn(s(*at), "a", state.map(|state| Arc::new(json!(state))));
        }
        told
    }

    #[test]
    fn what_was_known_within_the_while_counts_and_what_was_over_before_does_not() {
        let told = told(&[(1, Some(1)), (5, Some(2)), (40, None)]);
        assert_eq!(states(&told, 41), [Some(json!(2)), None]);
        assert_eq!(states(&told, 69), [Some(json!(2)), None]);
        assert_eq!(states(&told, 71), [None]);
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let mut told = told(&[(1, Some(1))]);
        told.learn_list(s(2), vec![("b".to_owned(), Arc::new(json!(3)))]);
        assert_eq!(told.latest().into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn spans_that_share_a_moment_touch() {
        let span = |from, to| Span {
            from: s(from),
            to: s(to),
        };
        assert!(span(1, 2).touches(span(2, 3)));
        assert!(span(2, 2).touches(span(1, 3)));
        assert!(!span(1, 2).touches(span(3, 4)));
    }
}
