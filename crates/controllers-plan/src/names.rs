//! Names for new objects, of the form that servers give for `generateName`.
//!
//! A planner names what it creates itself, so that its events and reasons can speak of it, and so that a creation whose
//! answer was lost shows up under the name that was planned.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// The letters of generated names and hashes: no vowels, so no words; nothing that looks like something else.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many letters are appended.
const SUFFIX_LEN: usize = 5;

/// The longest name that is generated.
const NAME_MAX: usize = 63;

/// An endless supply of names with one prefix.
#[derive(Debug)]
pub(crate) struct FreshNames {
    prefix: String,
    state: u64,
    given: BTreeSet<String>,
}

impl FreshNames {
    /// Names that begin with `prefix`, none of them `taken`; other seeds and times give other names.
    pub(crate) fn new<'a>(prefix: &str, seed: &str, now: Timestamp, taken: impl Iterator<Item = &'a str>) -> Self {
        let time = now.as_nanosecond().to_le_bytes();
        let bytes = seed.bytes().chain(time);
        let state = bytes.fold(0xcbf2_9ce4_8422_2325, |state: u64, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let prefix = cut(prefix, NAME_MAX - SUFFIX_LEN).to_owned();
        let given = taken.map(str::to_owned).collect();
        Self { prefix, state, given }
    }

    /// The next name.
    pub(crate) fn next(&mut self) -> String {
        loop {
            let mut rest = self.scramble();
            let letter = |_| {
                let letter = LETTERS[usize::try_from(rest % 27).expect("below 27")];
                rest /= 27;
                char::from(letter)
            };
            let suffix: String = (0..SUFFIX_LEN).map(letter).collect();
            let name = format!("{}{suffix}", self.prefix);
            if self.given.insert(name.clone()) {
                return name;
            }
        }
    }

    /// SplitMix64: every state gives another number, and neighbours look unrelated.
    fn scramble(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The first bytes of a text, at most so many, on a border of characters.
pub(crate) fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fresh_short_and_repeatable() {
        let names = |seed: &str| {
            let mut names = FreshNames::new("web-", seed, Timestamp::UNIX_EPOCH, ["web-bbbbb"].into_iter());
            (0..100).map(|_| names.next()).collect::<BTreeSet<_>>()
        };
        assert_eq!(names("a").len(), 100);
        assert_eq!(names("a"), names("a"));
        assert_ne!(names("a"), names("b"));
        assert!(
            names("a")
                .iter()
                .all(|name| name.len() == 9 && name.starts_with("web-"))
        );
    }

    #[test]
    fn long_prefixes_are_cut() {
        let mut names = FreshNames::new(&"x".repeat(80), "", Timestamp::UNIX_EPOCH, std::iter::empty());
        assert_eq!(names.next().len(), NAME_MAX);
        assert_eq!(cut("aé", 2), "a");
    }
}
