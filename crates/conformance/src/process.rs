//! Child processes that end with their owner, by pid.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a daemon may take to become ready.
const START: Duration = Duration::from_secs(60);

/// A child process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until a daemon whose standard output is piped says that it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready in time.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let out = self.child.stdout.take().context("no pipe")?;
        within(START, "steadfast up", move || {
            let mut lines = BufReader::new(out).lines();
            for line in &mut lines {
                if line?.starts_with("ready") {
                    // The daemon may print more; its pipe must stay open and be emptied.
                    std::thread::spawn(move || lines.for_each(drop));
                    return Ok(());
                }
            }
            bail!("it ended")
        })
    }

    /// Sends a signal such as `TERM`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()?;
        if !status.success() {
            bail!("process {} is gone", self.pid());
        }
        Ok(())
    }

    /// Kills at once, as a crash would, and reaps.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill")?;
        self.child.wait().context("wait")?;
        Ok(())
    }

    /// Waits for the process to end, however long that takes.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait_for_ever(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().context("wait")
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("process {} still runs after {limit:?}", self.pid());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            // Reaping can only fail if somebody else reaped; there is nobody.
            drop(self.child.wait());
        }
    }
}

/// Runs `work` on a thread of its own and gives up waiting after `limit`.
///
/// # Errors
/// When `work` fails or takes longer.
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(work()).is_ok());
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => bail!("{what}: not within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("{what}: panicked"),
    }
}
