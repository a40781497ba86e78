//! `cargo xtask sim`: builds the simulator with optimization and runs it.

use crate::shell;

/// Runs seeds; what the words mean is told by the simulator itself.
///
/// # Errors
/// When a seed fails or the build does.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let run = ["run", "--release", "--quiet", "--package", "sim", "--"];
    shell::run(shell::cargo().args(run).args(words))
}
