//! Runs many episodes side by side, each in a process of its own, and tells of the first that fails.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use sim::{Episode, Outcome, run, shorten};

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
    #[arg(long, default_value_t = 1_000_000_000)]
    seconds: u64,
    /// How many at a time [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// Run only this seed, with its trace
    #[arg(long, value_name = "SEED")]
    one: Option<u64>,
    /// With --one: deeds of the user that do not happen, by number
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    leave_out: Vec<usize>,
    /// With --one: faults that do not happen
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = clap::builder::PossibleValuesParser::new(sim::FAULTS))]
    without: Vec<String>,
    /// Tell what is wrong with a seed that fails, and no more
    #[arg(long)]
    brief: bool,
    /// With --one: print no trace
    #[arg(long)]
    quiet: bool,
}

/// A seed that fails, how many deeds it has, and what is wrong.
struct Failed {
    seed: u64,
    deeds: usize,
    what: String,
}

/// What all threads share.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    done: AtomicU64,
    steps: AtomicU64,
    failed: Mutex<Option<Failed>>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(seed) = args.one {
        return Ok(one(&args, seed));
    }
    let began = Instant::now();
    let deadline = began + Duration::from_secs(args.seconds);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.unwrap_or(processors))
            .map(|_| scope.spawn(|| work(&args, &tally, deadline)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let (done, steps) = (tally.done.into_inner(), tally.steps.into_inner());
    println!(
        "{done} seeds from {}, {steps} steps, {:.1} s",
        args.from,
        began.elapsed().as_secs_f64()
    );
    match tally.failed.into_inner().unwrap_or_default() {
        None => Ok(ExitCode::SUCCESS),
        Some(failed) => {
            println!("seed {} fails:\n{}", failed.seed, failed.what);
            if !args.brief {
                explain(failed.seed, failed.deeds)?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Runs one episode here; the last line is for the process that asked.
fn one(args: &Args, seed: u64) -> ExitCode {
    let episode = Episode {
        seed,
        left_out: args.leave_out.clone(),
        without: args.without.clone(),
        with_trace: !args.quiet,
    };
    let Outcome {
        violations,
        steps,
        digest,
        trace,
        deeds,
    } = run(&episode);
    for line in trace.iter().chain(&violations) {
        println!("{line}");
    }
    println!("{} {steps} {deeds} {digest}", violations.len());
    ExitCode::from(u8::from(!violations.is_empty()))
}

/// What another process says of an episode: violations, steps, deeds, and all that it printed.
fn ask(episode: &Episode) -> anyhow::Result<(u64, u64, usize, String)> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(words(episode));
    let output = command.output().context("cannot start this program again")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().next_back().unwrap_or_default();
    let numbers: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [violations, steps, deeds, _] = numbers[..] else {
        // It panicked: that is a finding, too.
        return Ok((1, 0, 0, format!("{text}{said}")));
    };
    Ok((violations, steps, usize::try_from(deeds)?, text))
}

fn words(episode: &Episode) -> Vec<String> {
    let mut words = vec!["--one".to_owned(), episode.seed.to_string()];
    if !episode.left_out.is_empty() {
        let numbers: Vec<String> = episode.left_out.iter().map(usize::to_string).collect();
        words.extend(["--leave-out".to_owned(), numbers.join(",")]);
    }
    if !episode.without.is_empty() {
        words.extend(["--without".to_owned(), episode.without.join(",")]);
    }
    if !episode.with_trace {
        words.push("--quiet".to_owned());
    }
    words
}

fn work(args: &Args, tally: &Tally, deadline: Instant) -> anyhow::Result<()> {
    loop {
        let index = tally.next.fetch_add(1, Ordering::Relaxed);
        let has_failed = tally.failed.lock().is_ok_and(|failed| failed.is_some());
        if Instant::now() >= deadline || has_failed || index >= args.seeds {
            return Ok(());
        }
        let seed = args.from + index;
        let episode = Episode {
            seed,
            ..Episode::default()
        };
        let (violations, steps, deeds, what) = ask(&episode)?;
        tally.done.fetch_add(1, Ordering::Relaxed);
        tally.steps.fetch_add(steps, Ordering::Relaxed);
        if violations > 0
            && let Ok(mut failed) = tally.failed.lock()
        {
            failed.get_or_insert(Failed { seed, deeds, what });
        }
    }
}

fn explain(seed: u64, deeds: usize) -> anyhow::Result<()> {
    println!("it is being shortened");
    let mut problem = None;
    let mut shortest = shorten::shorten(seed, deeds, |candidate| match ask(candidate) {
        Ok((violations, ..)) => violations > 0,
        Err(error) => {
            problem = Some(error);
            false
        }
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    shortest.with_trace = true;
    println!("{}", ask(&shortest)?.3);
    println!("again: cargo xtask sim {}", words(&shortest).join(" "));
    Ok(())
}
