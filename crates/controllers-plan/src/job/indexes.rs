//! Sets of completion indexes, written as people write pages: `1,3-5,7`.

use std::fmt;

use api::k8s::api::core::v1::Pod;

/// The annotation and label with a pod's completion index.
pub const INDEX_KEY: &str = "batch.kubernetes.io/job-completion-index";

/// Intervals of indexes, ascending, neither overlapping nor touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// What a text names, of the indexes below `completions`. What cannot be read is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut indexes = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                indexes.add(first.max(0), last.min(completions - 1));
            }
        }
        indexes
    }

    /// How many there are.
    pub(super) fn len(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    /// How many of others are among these.
    pub(super) fn common(&self, others: &Self) -> i32 {
        let overlap = |(first, last): &(i32, i32)| {
            let parts = others
                .0
                .iter()
                .map(|(from, to)| ((*last).min(*to) - (*first).max(*from) + 1).max(0));
            parts.sum::<i32>()
        };
        self.0.iter().map(overlap).sum()
    }

    /// These and others.
    pub(super) fn union(mut self, others: &Self) -> Self {
        for (first, last) in &others.0 {
            self.add(*first, *last);
        }
        self
    }

    /// The first of those below `completions` that are not among these.
    pub(super) fn first_missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let room = count - missing.len();
            missing.extend((next..first.min(completions)).take(room));
            next = last + 1;
        }
        missing
    }

    fn add(&mut self, first: i32, last: i32) {
        if first > last {
            return;
        }
        // Touching intervals become one.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let first = self.0[from..to].first().map_or(first, |(start, _)| first.min(*start));
        let last = self.0[from..to].last().map_or(last, |(_, end)| last.max(*end));
        self.0.splice(from..to, [(first, last)]);
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The completion index that a pod has, if it has one.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(INDEX_KEY)?.parse().ok().filter(|index| *index >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let cases = [
            ("", "", 0),
            ("1", "1", 1),
            ("1-3,5", "1-3,5", 4),
            ("1,2", "1,2", 2),
            ("2,1,0", "0-2", 3),
            ("8-20", "8,9", 2),
            ("x,3", "3", 1),
            ("3-1", "", 0),
        ];
        for (text, expected, len) in cases {
            let indexes = Indexes::parse(text, 10);
            assert_eq!(indexes.to_string(), expected, "{text}");
            assert_eq!(indexes.len(), len, "{text}");
        }
    }

    #[test]
    fn sets_are_asked_and_joined() {
        let some = Indexes::parse("1-3,7", 10);
        assert!(some.contains(2) && some.contains(7) && !some.contains(0) && !some.contains(4));
        assert_eq!(some.common(&Indexes::parse("3-8", 10)), 2);
        assert_eq!(some.clone().union(&Indexes::parse("0,4-6", 10)).to_string(), "0-7");
        assert_eq!(some.first_missing(4, 10), [0, 4, 5, 6]);
        assert_eq!(some.first_missing(9, 10), [0, 4, 5, 6, 8, 9]);
        assert_eq!(some.first_missing(9, 3), [0]);
    }
}
