//! The small processes between the server and containers.
//!
//! `monitor container` owns one container: its standard streams, its log, its exit code. It is a child of init, so the
//! server may be killed and replaced at any time. `monitor exec` owns one further process of a container for as long
//! as the server wants it, and `monitor pause` is the first process of a PID namespace shared by a pod.
//! None of them has a second thread or knows CRI.

mod client;
mod container;
mod daemon;
mod exec;
mod log;
mod pause;
pub(crate) mod plan;
pub(crate) mod pty;
mod runtime_command;
pub(crate) use runtime_command::failure;
pub(crate) mod wire;

use std::path::Path;

/// Runs a monitor, `args` being the words after `monitor`; returns the exit code.
///
/// Must be called before any thread exists: it forks.
#[must_use]
pub fn main(args: Vec<String>) -> i32 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["container", folder] => container::run(Path::new(folder)),
        ["exec", plan] => exec::run(plan),
        ["pause", state] => pause::run(Path::new(state)),
        _ => {
            eprintln!("usage: monitor container FOLDER | exec PLAN | pause FOLDER (started by the runtime only)");
            return 2;
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("monitor: {error}");
            1
        }
    }
}
