//! Makes a failing episode as small as it can be and still fail.

use crate::{Episode, FAULTS};

/// Leaves out whatever is not needed for a failure. `deeds` is how many the seed has.
pub fn shorten(seed: u64, deeds: usize, mut fails: impl FnMut(&Episode) -> bool) -> Episode {
    let mut best = Episode {
        seed,
        ..Episode::default()
    };
    loop {
        let before = best.clone();
        for fault in FAULTS.iter().map(|&fault| fault.to_owned()) {
            let mut smaller = best.clone();
            if !smaller.without.contains(&fault) {
                smaller.without.push(fault);
                if fails(&smaller) {
                    best = smaller;
                }
            }
        }
        for deed in (0..deeds).rev() {
            let mut smaller = best.clone();
            if !smaller.left_out.contains(&deed) {
                smaller.left_out.push(deed);
                if fails(&smaller) {
                    best = smaller;
                }
            }
        }
        if best == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_remains() {
        let is_needed = |episode: &Episode| {
            !episode.left_out.contains(&2)
                && !episode.left_out.contains(&5)
                && !episode.without.contains(&"cut".to_owned())
        };
        let short = shorten(7, 6, is_needed);
        assert_eq!(short.left_out, [4, 3, 1, 0]);
        assert_eq!(short.without.len(), FAULTS.len() - 1);
    }
}
