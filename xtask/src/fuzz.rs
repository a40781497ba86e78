//! `cargo xtask fuzz`: libFuzzer against the parsers of what strangers send, from the corpus in the repository.
//!
//! `cargo fuzz run` works with the same targets, but wants a nightly compiler and compiles every dependency anew. Here only
//! our own crates are instrumented, so that a short run costs little more than its time.

use crate::shell;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What one input may take: more than any request should.
const LIMITS: [&str; 4] = [
    "-timeout=10",
    "-rss_limit_mb=1024",
    "-max_len=4096",
    "-print_final_stats=0",
];

/// Fuzzes all targets, or those that are named, each for so many seconds.
///
/// # Errors
/// When a target breaks, or the build does; the input is kept below `target/fuzz`.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (mut seconds, mut wanted) = (60, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seconds" => seconds = words.next().context("how many seconds?")?.parse()?,
            name => wanted.push(name),
        }
    }
    let mut targets = targets()?;
    targets.retain(|target| wanted.is_empty() || wanted.contains(&target.as_str()));
    each(&targets, seconds, None)
}

/// Fuzzes everything for about a minute. Chance begins the same every time, so that a commit is judged by what it changes;
/// looking further is what [`run`] is for.
///
/// # Errors
/// As [`run`].
pub(crate) fn shortly() -> anyhow::Result<()> {
    let targets = targets()?;
    let abreast = u64::try_from(cores())?;
    let seconds = 60 * abreast / u64::try_from(targets.len().max(1))?;
    each(&targets, seconds.max(5), Some(1))
}

/// The targets: the folders of the corpus.
fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(shell::root().join("fuzz/corpus"))? {
        names.push(entry?.file_name().into_string().ok().context("a strange name")?);
    }
    names.sort();
    Ok(names)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn each(targets: &[String], seconds: u64, seed: Option<u32>) -> anyhow::Result<()> {
    build()?;
    let mut broken = Vec::new();
    for abreast in targets.chunks(cores()) {
        let running: Vec<(&String, PathBuf, Child)> = abreast
            .iter()
            .map(|target| start(target, seconds, seed))
            .collect::<anyhow::Result<_>>()?;
        for (target, log, mut child) in running {
            if !child.wait()?.success() {
                let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
                broken.push(format!("{target}:\n{said}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    eprintln!("fuzzed {} for {seconds} s each", targets.join(", "));
    Ok(())
}

/// Builds the targets.
fn build() -> anyhow::Result<()> {
    let wrapper = shell::root().join("fuzz/instrumented-rustc");
    shell::run(
        shell::cargo()
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
            .args(["build", "--package", "fuzz", "--bins"]),
    )
}

fn start(target: &String, seconds: u64, seed: Option<u32>) -> anyhow::Result<(&String, PathBuf, Child)> {
    let work = shell::target().join("fuzz").join(target);
    let found = work.join("found");
    std::fs::create_dir_all(&found)?;
    let log = work.join("log");
    let output = std::fs::File::create(&log)?;
    let mut command = Command::new(shell::target().join("debug").join(format!("fuzz-{target}")));
    command
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .args(seed.map(|seed| format!("-seed={seed}")))
        .arg(format!("-artifact_prefix={}/", work.display()))
        .arg(found)
        .arg(corpus(target))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output);
    let child = command.spawn().with_context(|| format!("cannot start {target}"))?;
    Ok((target, log, child))
}

fn corpus(target: &str) -> PathBuf {
    Path::new(&shell::root()).join("fuzz/corpus").join(target)
}
