//! The real kubectl against one cluster.

use crate::process::within;
use anyhow::{Context, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long any single wait may last.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A kubectl program with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The kubectl at `program` (or in the PATH, for a bare name).
    pub fn new(program: impl Into<PathBuf>, kubeconfig: &Path) -> Self {
        Self {
            program: program.into(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// The command with these words, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        // A cache of its own per cluster: ports and certificates differ, discovery must not be an older one's.
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env(
                "HOME",
                self.kubeconfig.parent().expect("the kubeconfig lies in a folder"),
            )
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs with a command line split at spaces and returns how it ended.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn output(&self, line: &str) -> anyhow::Result<Output> {
        self.output_of(line.split_whitespace(), None)
    }

    /// Runs with `words`, `input` on standard input, and returns how it ended.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn output_of<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: Option<&str>,
    ) -> anyhow::Result<Output> {
        let mut command = self.command(words);
        let what = format!("{command:?}");
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| what.clone())?;
        let input = input.map(str::to_owned);
        let stdin = child.stdin.take();
        within(PATIENCE * 2, &what, move || {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input.as_bytes())?;
            }
            Ok(child.wait_with_output()?)
        })
    }

    /// Runs and returns standard output; any other exit code than 0 is an error.
    ///
    /// # Errors
    /// When the command fails, with what it said.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        expect_success(line, self.output(line)?)
    }

    /// Like [`Kubectl::run`] with words that may hold spaces.
    ///
    /// # Errors
    /// When the command fails, with what it said.
    pub fn run_words(&self, words: &[&str]) -> anyhow::Result<String> {
        expect_success(&words.join(" "), self.output_of(words, None)?)
    }

    /// Runs with `input` on standard input.
    ///
    /// # Errors
    /// When the command fails, with what it said.
    pub fn run_with(&self, line: &str, input: &str) -> anyhow::Result<String> {
        expect_success(line, self.output_of(line.split_whitespace(), Some(input))?)
    }

    /// Runs, expects failure and returns what it said on standard error.
    ///
    /// # Errors
    /// When the command succeeds.
    pub fn refused(&self, line: &str, input: &str) -> anyhow::Result<String> {
        let output = self.output_of(line.split_whitespace(), Some(input))?;
        if output.status.success() {
            bail!("kubectl {line} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8(output.stderr)?)
    }

    /// `get LINE -o json`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn get(&self, line: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("get {line} -o json"))?)?)
    }

    /// `exec POD -- sh -c SCRIPT`, returns standard output.
    ///
    /// # Errors
    /// When the command fails.
    pub fn shell(&self, pod: &str, script: &str) -> anyhow::Result<String> {
        self.run_words(&["exec", pod, "--", "/bin/sh", "-c", script])
    }

    /// Watches `get LINE` until `done` says yes of an event (its type and its object) and returns that object.
    ///
    /// One object (`pod web-0`) is watched as a list of one: a watch by name begins anew on the server, and kubectl does
    /// not print the first event of it, not even when the object has changed since kubectl got and printed it.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn watch(
        &self,
        line: &str,
        mut done: impl FnMut(&str, &Value) -> bool + Send + 'static,
    ) -> anyhow::Result<Value> {
        let line = format!("get {} --watch --output-watch-events -o json", as_list(line));
        let mut child = self.command(line.split_whitespace()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("no pipe")?;
        let result = within(PATIENCE, &format!("kubectl {line}"), move || {
            for event in serde_json::Deserializer::from_reader(out).into_iter::<Value>() {
                let event = event?;
                if done(event["type"].as_str().unwrap_or_default(), &event["object"]) {
                    return Ok(event["object"].clone());
                }
            }
            bail!("the watch ended")
        });
        child.kill()?;
        child.wait()?;
        result
    }
}

fn expect_success(line: &str, output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!(
            "kubectl {line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `pod web-0` as the list that has only that object.
fn as_list(line: &str) -> String {
    match line.split_once(' ') {
        Some((kind, name)) if !name.starts_with('-') => format!("{kind} --field-selector=metadata.name={name}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_object_is_watched_as_a_list() {
        for (line, list) in [
            ("pod web-0", "pod --field-selector=metadata.name=web-0"),
            ("pods -l app=nginx", "pods -l app=nginx"),
            ("events", "events"),
        ] {
            assert_eq!(super::as_list(line), list);
        }
    }
}
