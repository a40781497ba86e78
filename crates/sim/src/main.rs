//! Runs many episodes side by side and tells of the first that fails.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use sim::{Episode, run, shorten};

/// Simulates the control plane, one seed after the other.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after so many seconds
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
    /// How many at a time [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// Run each seed twice and compare
    #[arg(long)]
    twice: bool,
    /// Print the trace even if nothing is wrong
    #[arg(long)]
    trace: bool,
}

/// What all threads share.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    done: AtomicU64,
    steps: AtomicU64,
    failed: std::sync::Mutex<Vec<u64>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let deadline = began.checked_add(Duration::from_secs(args.seconds));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.unwrap_or(processors) {
            scope.spawn(|| work(&args, &tally, deadline));
        }
    });
    let (done, steps) = (tally.done.into_inner(), tally.steps.into_inner());
    let took = began.elapsed();
    println!(
        "{done} seeds from {}, {steps} steps, {:.1} s",
        args.from,
        took.as_secs_f64()
    );
    let failed = tally.failed.into_inner().unwrap_or_default();
    let Some(seed) = failed.first() else {
        return ExitCode::SUCCESS;
    };
    explain(*seed);
    ExitCode::FAILURE
}

fn work(args: &Args, tally: &Tally, deadline: Option<Instant>) {
    loop {
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let index = tally.next.fetch_add(1, Ordering::Relaxed);
        let has_failed = tally.failed.lock().is_ok_and(|failed| !failed.is_empty());
        if is_over || has_failed || index >= args.seeds {
            return;
        }
        let episode = Episode {
            seed: args.from + index,
            deeds: None,
            faults: None,
            with_trace: args.trace,
        };
        let outcome = run(&episode);
        tally.done.fetch_add(1, Ordering::Relaxed);
        tally.steps.fetch_add(outcome.steps, Ordering::Relaxed);
        for line in &outcome.trace {
            println!("{line}");
        }
        let differs = args.twice && run(&episode).digest != outcome.digest;
        if differs {
            println!("seed {} does not run twice the same", episode.seed);
        }
        if (differs || !outcome.violations.is_empty())
            && let Ok(mut failed) = tally.failed.lock()
        {
            failed.push(episode.seed);
        }
    }
}

fn explain(seed: u64) {
    let whole = run(&Episode {
        seed,
        deeds: None,
        faults: None,
        with_trace: false,
    });
    println!("seed {seed} fails: {:#?}", whole.violations);
    if whole.violations.is_empty() {
        return;
    }
    let (episode, outcome) = shorten::shorten(&whole, seed);
    println!("shortened to {:#?}\n{:#?}", episode.deeds, episode.faults);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("violations: {:#?}", outcome.violations);
}
