//! A process that writes and is killed, again and again, on one store.
//!
//! `STEADFAST_CRASH_ROUNDS` says how many rounds; without it there are as many as fit into some seconds.

use crate::{check, write_until_failure};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Revision, Store};
use store_embedded::EmbeddedStore;

const DIR: &str = "STEADFAST_TEST_CRASH_DIR";
const ROUND: &str = "STEADFAST_TEST_CRASH_ROUND";
const ROUNDS: &str = "STEADFAST_CRASH_ROUNDS";

/// How long the rounds go on if their number is not given.
const TIME: Duration = Duration::from_secs(15);

const WRITERS: usize = 8;

/// Rounds on one store, before the next is begun.
const ROUNDS_PER_STORE: usize = 40;

fn prefix(round: usize, writer: usize) -> String {
    format!("/{round}/{writer}/")
}

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round: usize = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = Arc::new(EmbeddedStore::open(Path::new(&dir)).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            write_until_failure(&store, &prefix(round, writer), |steps, revision| {
                let mut out = io::stdout().lock();
                writeln!(out, "ack {writer} {steps} {revision}").expect("the parent listens");
                out.flush().expect("the parent listens");
            })
            .await;
        });
    }
    while writers.join_next().await.is_some() {}
}

fn start(dir: &Path, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_that_writes", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a process write, kills it after it has said so many acknowledgements, and returns what each writer was told
/// last, and the highest revision of all.
fn kill_after(lines: usize, mut child: Child) -> ([usize; WRITERS], Revision) {
    let (mut acknowledged, mut highest, mut heard) = ([0; WRITERS], 0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, numbers)) = line.split_once("ack ") else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
        // The last line may be cut.
        let [writer, steps, revision] = numbers[..] else {
            continue;
        };
        acknowledged[usize::try_from(writer).unwrap()] = usize::try_from(steps).unwrap();
        highest = highest.max(revision);
        heard += 1;
        if heard == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (acknowledged, highest)
}

#[tokio::test]
async fn acknowledged_writes_survive_kill() {
    let rounds: Option<usize> = std::env::var(ROUNDS).ok().map(|rounds| rounds.parse().unwrap());
    let begun = Instant::now();
    let (mut dir, mut before) = (tempfile::tempdir().unwrap(), 0);
    let mut shown: Vec<(String, usize)> = Vec::new();
    let mut done = 0;
    while rounds.map_or(begun.elapsed() < TIME, |rounds| done < rounds) {
        if done % ROUNDS_PER_STORE == 0 {
            (dir, before) = (tempfile::tempdir().unwrap(), 0);
            shown.clear();
        }
        // Some die at their first write, some after long.
        let lines = [1, 7, 40, 150, 11, 300, 3, 80, 25, 600][done % 10];
        let (acknowledged, highest) = kill_after(lines, start(dir.path(), done));
        let context = format!("round {done}");
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let revision = store.revision().await.unwrap();
        assert!(
            revision >= highest && revision >= before,
            "{context}: revision {revision} after {highest} and {before}"
        );
        before = revision;
        for (prefix, steps) in &shown {
            assert_eq!(
                check(&store, prefix, *steps, &context).await,
                *steps,
                "{context}: something came late"
            );
        }
        for (writer, steps) in acknowledged.into_iter().enumerate() {
            let prefix = prefix(done, writer);
            let steps = check(&store, &prefix, steps, &context).await;
            shown.push((prefix, steps));
        }
        done += 1;
    }
    println!("{done} rounds in {:?}", begun.elapsed());
}
