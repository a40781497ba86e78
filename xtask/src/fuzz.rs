//! `cargo xtask fuzz`: libFuzzer against the parsers of what strangers send, from the corpus in the repository.
//!
//! `cargo fuzz run` works with the same targets, but wants a nightly compiler and compiles every dependency anew. Here only
//! our own crates are instrumented, so that a short run costs little more than its time.

use crate::shell;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How many inputs [`shortly`] tries on each target: some seconds.
const INPUTS_SHORTLY: u32 = 20_000;

/// What one input may take: more than any request should.
const LIMITS: [&str; 4] = [
    "-timeout=60",
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
    each(&targets, &[format!("-max_total_time={seconds}")])
}

/// Tries the same twenty thousand inputs on everything every time, so that a commit is judged by what it changes; looking
/// further is what [`run`] is for.
///
/// # Errors
/// As [`run`].
pub(crate) fn shortly() -> anyhow::Result<()> {
    each(&targets()?, &["-seed=1".to_owned(), format!("-runs={INPUTS_SHORTLY}")])
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

fn each(targets: &[String], how_far: &[String]) -> anyhow::Result<()> {
    build()?;
    let mut broken = Vec::new();
    for abreast in targets.chunks(cores()) {
        let running: Vec<(&String, PathBuf, Child)> = abreast
            .iter()
            .map(|target| start(target, how_far))
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
    eprintln!("fuzzed {} ({})", targets.join(", "), how_far.join(" "));
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

fn start<'a>(target: &'a String, how_far: &[String]) -> anyhow::Result<(&'a String, PathBuf, Child)> {
    let work = shell::target().join("fuzz").join(target);
    let found = work.join("found");
    std::fs::create_dir_all(&found)?;
    let log = work.join("log");
    let output = std::fs::File::create(&log)?;
    let mut command = Command::new(shell::target().join("debug").join(format!("fuzz-{target}")));
    command
        .args(LIMITS)
        .args(how_far)
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
