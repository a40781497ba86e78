//! Seeds that are run every time: new ones, as many as a minute allows, and those that found something once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// How long new seeds are tried. `cargo xtask sim` tries as many as one likes.
const BUDGET_S: &str = "45";

/// Seeds that found a bug, each with what it found.
const REGRESSIONS: [(u64, &str); 1] = [(
    100_044,
    "the agent of a node that was found again and the node lifecycle controller contradicted each other without end",
)];

/// Runs the simulator; what it printed.
fn sim(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{said}");
    text
}

#[test]
fn new_seeds_are_clean() {
    println!("{}", sim(&["--jobs", "1", "--seconds", BUDGET_S]));
}

#[test]
fn seeds_that_found_something_are_clean() {
    for (seed, found) in REGRESSIONS {
        println!("{seed}: {found}");
        sim(&["--quiet", "--one", &seed.to_string()]);
    }
}

#[test]
fn the_same_seed_is_the_same_episode() {
    let once = sim(&["--one", "3"]);
    assert!(once == sim(&["--one", "3"]), "seed 3 does not run twice the same");
    assert_ne!(once, sim(&["--one", "4"]));
}
