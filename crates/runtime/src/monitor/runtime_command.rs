//! Calling the OCI runtime from a monitor, and finding out why it failed.
#![expect(unsafe_code, reason = "a child's signal mask has no safe form")]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::plan::RuntimeCommand;

/// The words before the subcommand.
pub(super) fn command(runtime: &RuntimeCommand, log: &Path) -> Command {
    let mut command = Command::new(&runtime.program[0]);
    command.args(&runtime.program[1..]).arg("--root").arg(&runtime.root);
    command.arg("--log").arg(log).args(["--log-format", "json"]);
    // What a service manager handed to the server is not for containers.
    command.env_remove("LISTEN_FDS");
    unblock_signals(&mut command);
    command
}

/// We block signals in order to read them from a descriptor; containers must not inherit that.
fn unblock_signals(command: &mut Command) {
    let unblock = || Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?);
    // SAFETY: between fork and exec only a system call is made, and nothing is allocated.
    unsafe { command.pre_exec(unblock) };
}

/// Starts a subcommand that needs no streams.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The last error in the OCI runtime's log.
pub(crate) fn failure(log: &Path, what: &str) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut errors = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        matches!(line["level"].as_str()?, "error" | "fatal").then(|| line["msg"].as_str().map(str::to_owned))?
    });
    errors
        .next_back()
        .unwrap_or_else(|| format!("the OCI runtime's {what} failed without giving a reason"))
}

#[cfg(test)]
mod tests {
    use super::failure;

    #[test]
    fn the_last_error_counts() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(failure(file.path(), "create").contains("create failed"));
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"info\",\"msg\":\"x\"}\nnoise\n{\"level\":\"error\",\"msg\":\"exec: \\\"foo\\\"\"}\n{\"level\":\"warning\",\"msg\":\"y\"}\n";
        std::fs::write(file.path(), log).expect("written");
        assert_eq!(failure(file.path(), "create"), "exec: \"foo\"");
    }
}
