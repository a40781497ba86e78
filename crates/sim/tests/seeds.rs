//! Seeds that are run every time: some new ones, as many as a minute allows, and those that found something once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use sim::{Episode, Outcome, run};

/// How long new seeds are tried. `cargo xtask sim` tries as many as one likes.
const BUDGET: Duration = Duration::from_secs(45);

/// Seeds that found a bug, in the simulator's present form; each with what it found.
const REGRESSIONS: [(u64, &str); 0] = [];

fn episode(seed: u64) -> Outcome {
    run(&Episode {
        seed,
        deeds: None,
        faults: None,
        with_trace: false,
    })
}

fn check(seed: u64) {
    let outcome = episode(seed);
    let advice = format!("run `cargo xtask sim --seeds 1 --from {seed}` for its shortened trace");
    assert!(
        outcome.violations.is_empty(),
        "seed {seed}: {:#?}; {advice}",
        outcome.violations
    );
}

#[test]
fn new_seeds_are_clean() {
    let began = Instant::now();
    for seed in 0..1000 {
        check(seed);
        if began.elapsed() > BUDGET {
            println!("{} seeds", seed + 1);
            return;
        }
    }
}

#[test]
fn seeds_that_found_something_are_clean() {
    for (seed, found) in REGRESSIONS {
        println!("{seed}: {found}");
        check(seed);
    }
}

#[test]
fn the_same_seed_is_the_same_episode() {
    assert_eq!(episode(3).digest, episode(3).digest);
    assert_ne!(episode(3).digest, episode(4).digest);
}
