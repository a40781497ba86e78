//! Runs many episodes side by side, each in a process of its own, and tells of the first that fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use sim::forked::{self, Forked};
use sim::{Episode, Outcome, shorten};

/// How often it is said how far it has come.
const REPORT: Duration = Duration::from_secs(60);

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
    /// Go on after a seed that fails, and tell of all in the end
    #[arg(long)]
    keep_going: bool,
    /// Say every minute how far it has come
    #[arg(long)]
    report: bool,
}

/// A seed that fails, how many deeds it has, and what is wrong.
struct Failed {
    seed: u64,
    deeds: usize,
    what: String,
}

/// What an episode came to.
struct Found {
    violations: u64,
    steps: u64,
    deeds: usize,
    text: String,
}

/// How far it has come.
#[derive(Default)]
struct Tally {
    done: u64,
    steps: u64,
    failed: Vec<Failed>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    sim::warm_up();
    if let Some(seed) = args.one {
        let episode = Episode {
            seed,
            left_out: args.leave_out.clone(),
            without: args.without.clone(),
            with_trace: !args.quiet,
        };
        let found = ask(&episode)?;
        print!("{}", found.text);
        return Ok(ExitCode::from(u8::from(found.violations > 0)));
    }
    let began = Instant::now();
    let tally = many(&args, began)?;
    println!("{}", tally.words(&args, began));
    for failed in &tally.failed {
        println!("seed {} fails:\n{}", failed.seed, failed.what);
    }
    if let Some(first) = tally.failed.first().filter(|_| !args.brief) {
        explain(first.seed, first.deeds)?;
    }
    Ok(ExitCode::from(u8::from(!tally.failed.is_empty())))
}

impl Tally {
    fn words(&self, args: &Args, began: Instant) -> String {
        let (done, steps) = (self.done, self.steps);
        let seconds = began.elapsed().as_secs_f64();
        format!("{done} seeds from {}, {steps} steps, {seconds:.1} s", args.from)
    }

    fn note(&mut self, seed: u64, found: Found) {
        self.done += 1;
        self.steps += found.steps;
        if found.violations > 0 {
            self.failed.push(Failed {
                seed,
                deeds: found.deeds,
                what: found.text,
            });
        }
    }
}

/// Runs seeds until there are no more, the time is over, or one fails.
fn many(args: &Args, began: Instant) -> anyhow::Result<Tally> {
    let deadline = began + Duration::from_secs(args.seconds);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.unwrap_or(processors).max(1);
    let mut seeds = args.from..args.from.saturating_add(args.seeds);
    let mut running: BTreeMap<i32, (u64, Forked)> = BTreeMap::new();
    let mut tally = Tally::default();
    let mut reported = began;
    loop {
        while running.len() < jobs
            && Instant::now() < deadline
            && (args.keep_going || tally.failed.is_empty())
            && let Some(seed) = seeds.next()
        {
            let forked = begin(&Episode {
                seed,
                ..Episode::default()
            })?;
            running.insert(forked.id(), (seed, forked));
        }
        if running.is_empty() {
            return Ok(tally);
        }
        let ended = forked::wait().context("cannot wait for episodes")?;
        if let Some((seed, forked)) = running.remove(&ended) {
            tally.note(seed, read(forked)?);
        }
        if args.report && reported.elapsed() >= REPORT {
            reported = Instant::now();
            println!("{}, {} failed", tally.words(args, began), tally.failed.len());
        }
    }
}

fn begin(episode: &Episode) -> anyhow::Result<Forked> {
    // SAFETY: this program has no thread but this one; those of episodes end before `sim::run` returns.
    let forked = unsafe { Forked::begin(|paper| live(episode, paper)) };
    forked.context("cannot start a process")
}

/// Lives through an episode and writes down what came of it; the last line is for the process that asked.
fn live(episode: &Episode, paper: &mut File) {
    let hook = paper.try_clone();
    std::panic::set_hook(Box::new(move |panic| {
        // Whoever reads this finds no last line.
        if let Ok(mut paper) = hook.as_ref() {
            drop(writeln!(paper, "{panic}"));
        }
    }));
    let Outcome {
        violations,
        steps,
        digest,
        trace,
        deeds,
    } = sim::run(episode);
    let mut text = String::new();
    for line in trace.iter().chain(&violations) {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("{} {steps} {deeds} {digest}\n", violations.len()));
    drop(paper.write_all(text.as_bytes()));
}

fn ask(episode: &Episode) -> anyhow::Result<Found> {
    let forked = begin(episode)?;
    while forked::wait().context("cannot wait for an episode")? != forked.id() {}
    read(forked)
}

fn read(forked: Forked) -> anyhow::Result<Found> {
    let text = forked.read().context("cannot read what an episode says")?;
    let last = text.lines().next_back().unwrap_or_default();
    let numbers: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    let found = match numbers[..] {
        [violations, steps, deeds, _] => Found {
            violations,
            steps,
            deeds: usize::try_from(deeds)?,
            text,
        },
        // It panicked or was killed: that is a finding, too.
        _ => Found {
            violations: 1,
            steps: 0,
            deeds: 0,
            text: format!("{text}the episode has no end\n"),
        },
    };
    Ok(found)
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
    words
}

fn explain(seed: u64, deeds: usize) -> anyhow::Result<()> {
    println!("it is being shortened");
    let mut problem = None;
    let mut shortest = shorten::shorten(seed, deeds, |candidate| match ask(candidate) {
        Ok(found) => found.violations > 0,
        Err(error) => {
            problem = Some(error);
            false
        }
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    shortest.with_trace = true;
    println!("{}", ask(&shortest)?.text);
    println!("again: cargo xtask sim {}", words(&shortest).join(" "));
    Ok(())
}
