//! The OCI runtime command line on libcontainer; runs only in a fresh single-threaded process.
//!
//! The grammar is the part of runc's that a container runtime needs, so that `runc` can stand in its place.
//! This crate must not know who calls it: everything comes by arguments, the bundle and the state folder.

mod args;
mod commands;
mod diagnosis;
mod exec;
mod executor;
mod signals;

use clap::Parser;
use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use nix::sys::stat::{Mode, umask};

/// The exit code of a command that failed; a process in the container may use the same one.
const FAILED: i32 = 255;

/// Runs one command, `args` being the words after the program's name (`--root DIR create --bundle B ID` …).
///
/// Returns the exit code of the process. Must be called before any thread exists: libcontainer clones this process
/// and runs ordinary code in the child.
#[must_use]
pub fn main(args: Vec<String>) -> i32 {
    if let Err(error) = inherit_nothing() {
        eprintln!("cannot reset signals: {error}");
        return FAILED;
    }
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // clap answers `--help` as an error too; its exit code tells them apart.
            let code = error.exit_code();
            return if error.print().is_ok() { code } else { FAILED };
        }
    };
    let diagnosis = match diagnosis::Diagnosis::start(args.log.as_deref(), args.log_format) {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            eprintln!("{error:#}");
            return FAILED;
        }
    };
    match commands::run(args) {
        Ok(code) => code,
        Err(error) => {
            diagnosis.report(&error);
            FAILED
        }
    }
}

/// A container's process begins with what this one has, so Rust's ignored SIGPIPE and a caller's masks are undone.
fn inherit_nothing() -> nix::Result<()> {
    SigSet::empty().thread_set_mask()?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}
