//! Further processes in running containers.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines};
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tonic::Status;

use crate::container::Container;
use crate::disk;
use crate::failure::internal;
use crate::monitor::plan::{ExecEvent, ExecPlan, PLAN, Plan, RuntimeCommand};
use crate::monitor::pty;
use crate::state::Runtime;

/// CRI: output of ExecSync beyond this is cut.
const OUTPUT_SIZE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long output is waited for that children of the process may still write after its end.
const DRAIN: Duration = Duration::from_secs(2);

/// What is to be run.
pub(crate) struct Request {
    pub(crate) command: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
}

/// A process that runs.
pub(crate) struct Exec {
    pub(crate) streams: Streams,
    process: Process,
}

/// Our ends of its streams.
pub(crate) enum Streams {
    Pipes {
        stdin: Option<pipe::Sender>,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    Terminal(OwnedFd),
}

/// The process itself; killed when this is dropped.
pub(crate) struct Process {
    events: Lines<BufReader<ChildStdout>>,
    /// As long as this is open the process is wanted.
    _held: ChildStdin,
    _monitor: Child,
    _folder: Folder,
}

/// Removed with all it holds when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_folder(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "cannot remove the folder of an exec");
        }
    }
}

impl Process {
    /// The exit code.
    pub(crate) async fn wait(&mut self) -> Result<i32, Status> {
        match self.event().await? {
            ExecEvent::Exited(code) => Ok(code),
            ExecEvent::Failed(reason) => Err(Status::unknown(reason)),
            ExecEvent::Started => Err(Status::internal("the monitor of an exec reported twice that it runs")),
        }
    }

    async fn event(&mut self) -> Result<ExecEvent, Status> {
        let line = self
            .events
            .next_line()
            .await
            .map_err(internal("cannot hear the monitor of an exec"))?;
        let line = line.ok_or_else(|| Status::internal("the monitor of an exec has ended"))?;
        serde_json::from_str(&line).map_err(internal("cannot understand the monitor of an exec"))
    }
}

/// The OCI runtime that made a container.
fn made_by(folder: &Path) -> Result<RuntimeCommand, Status> {
    let plan: Option<Plan> = disk::read_json(&folder.join(PLAN)).map_err(internal("cannot read the container"))?;
    plan.map(|plan| plan.runtime)
        .ok_or_else(|| Status::internal("the container has no plan"))
}

impl Runtime {
    /// Runs a process in a container and returns when it runs.
    pub(crate) async fn exec(&self, container: &Container, request: Request) -> Result<Exec, Status> {
        if !container.is_running() {
            return Err(Status::failed_precondition(format!(
                "container {} is not running",
                container.id
            )));
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let folder = Folder(self.config.state.join("exec").join(&name));
        std::fs::create_dir_all(&folder.0).map_err(internal("cannot make the folder of an exec"))?;
        let process = process_of(&container.folder, &request)?;
        std::fs::write(folder.0.join("process.json"), process.to_string())
            .map_err(internal("cannot write an exec's process"))?;
        let console = request.tty.then(|| self.config.state.join("tty").join(&name[..12]));
        let mut plan = ExecPlan {
            runtime: made_by(&container.folder)?,
            id: container.id.clone(),
            folder: folder.0.clone(),
            console_socket: console.clone(),
            stdio: None,
        };
        match console {
            Some(console) => self.exec_terminal(&plan, folder, &console).await,
            None => {
                let pipes = Pipes::new(request.stdin).map_err(internal("cannot make pipes"))?;
                plan.stdio = Some(pipes.paths());
                let mut process = self.spawn(&plan, folder)?;
                started(process.event().await?)?;
                Ok(Exec {
                    streams: pipes.ours().map_err(internal("cannot use pipes"))?,
                    process,
                })
            }
        }
    }

    async fn exec_terminal(&self, plan: &ExecPlan, folder: Folder, console: &Path) -> Result<Exec, Status> {
        if let Some(parent) = console.parent() {
            std::fs::create_dir_all(parent).map_err(internal("cannot make the folder of a terminal"))?;
        }
        let listener = UnixListener::bind(console).map_err(internal("cannot make a terminal's socket"))?;
        let spawned = self.spawn(plan, folder);
        let received = async {
            let mut process = spawned?;
            let (connection, _) = tokio::select! {
                connection = listener.accept() => connection.map_err(internal("cannot accept a terminal"))?,
                event = process.event() => {
                    started(event?)?;
                    return Err(Status::internal("the OCI runtime sent no terminal"));
                }
            };
            let receive = || pty::receive_master(&connection);
            let master = connection.async_io(tokio::io::Interest::READABLE, receive).await;
            // The runtime's own error is the better explanation.
            started(process.event().await?)?;
            Ok(Exec {
                streams: Streams::Terminal(master.map_err(internal("cannot receive a terminal"))?),
                process,
            })
        }
        .await;
        disk::remove_file(console).map_err(internal("cannot remove a terminal's socket"))?;
        received
    }

    fn spawn(&self, plan: &ExecPlan, folder: Folder) -> Result<Process, Status> {
        let plan = serde_json::to_string(plan).map_err(internal("cannot write an exec's plan"))?;
        let mut monitor = self
            .driver
            .exec_monitor(&plan)
            .spawn()
            .map_err(internal("cannot start the monitor of an exec"))?;
        let events = BufReader::new(monitor.stdout.take().expect("standard output is piped")).lines();
        let held = monitor.stdin.take().expect("standard input is piped");
        Ok(Process {
            events,
            _held: held,
            _monitor: monitor,
            _folder: folder,
        })
    }

    /// Runs a process to its end, or for `limit` at most.
    pub(crate) async fn exec_sync(
        &self,
        container: &Container,
        command: Vec<String>,
        limit: Option<Duration>,
    ) -> Result<(Vec<u8>, Vec<u8>, i32), Status> {
        let text = command.join(" ");
        let run = async {
            let exec = self
                .exec(
                    container,
                    Request {
                        command,
                        tty: false,
                        stdin: false,
                    },
                )
                .await?;
            let mut process = exec.process;
            let Streams::Pipes { stdout, stderr, .. } = exec.streams else {
                return Err(Status::internal("an exec without a terminal got one"));
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = {
                let reads =
                    std::pin::pin!(async { tokio::join!(collect(stdout, &mut out), collect(stderr, &mut err)) });
                let mut reads = futures::future::FutureExt::fuse(reads);
                let mut drained = false;
                let code = loop {
                    tokio::select! {
                        code = process.wait() => break code?,
                        _ = &mut reads => drained = true,
                    }
                };
                if !drained {
                    // A child that keeps a pipe open for ever must not hold us.
                    tokio::time::timeout(DRAIN, &mut reads)
                        .await
                        .map(drop)
                        .unwrap_or_default();
                }
                code
            };
            Ok((out, err, code))
        };
        match limit {
            None => run.await,
            Some(limit) => {
                let late = |_| {
                    Status::deadline_exceeded(format!("command {text:?} timed out after {} s", limit.as_secs_f64()))
                };
                tokio::time::timeout(limit, run).await.map_err(late)?
            }
        }
    }
}

impl Exec {
    /// Its streams and the process, to be served apart.
    pub(crate) fn split(self) -> (Streams, Process) {
        (self.streams, self.process)
    }
}

fn started(event: ExecEvent) -> Result<(), Status> {
    match event {
        ExecEvent::Started => Ok(()),
        ExecEvent::Failed(reason) => Err(Status::unknown(format!("failed to exec in container: {reason}"))),
        ExecEvent::Exited(code) => Err(Status::internal(format!("an exec ended with {code} before it ran"))),
    }
}

/// The container's own process with another command.
fn process_of(folder: &Path, request: &Request) -> Result<Value, Status> {
    if request.command.is_empty() {
        return Err(Status::invalid_argument("no command given"));
    }
    let spec: Option<Value> =
        disk::read_json(&folder.join("config.json")).map_err(internal("cannot read the container's configuration"))?;
    let spec = spec.ok_or_else(|| Status::internal("the container has no configuration"))?;
    let mut process = spec["process"].clone();
    process["args"] = json!(request.command);
    process["terminal"] = json!(request.tty);
    if request.tty
        && let Some(env) = process["env"].as_array_mut()
        && !env
            .iter()
            .any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")))
    {
        env.push(json!("TERM=xterm"));
    }
    Ok(process)
}

async fn collect(from: impl AsyncRead + Unpin, to: &mut Vec<u8>) {
    let mut from = from.take(OUTPUT_SIZE_BYTES_MAX);
    // What cannot be read is as if it had not been written; the exit code tells the rest.
    from.read_to_end(to).await.map(drop).unwrap_or_default();
    let mut rest = from.into_inner();
    tokio::io::copy(&mut rest, &mut tokio::io::sink())
        .await
        .map(drop)
        .unwrap_or_default();
}

/// Both ends of the pipes of a process; it opens its own by their paths.
struct Pipes {
    stdin: Option<(PipeReader, PipeWriter)>,
    stdout: (PipeReader, PipeWriter),
    stderr: (PipeReader, PipeWriter),
}

impl Pipes {
    fn new(stdin: bool) -> std::io::Result<Self> {
        Ok(Self {
            stdin: stdin.then(pipe).transpose()?,
            stdout: pipe()?,
            stderr: pipe()?,
        })
    }

    fn paths(&self) -> [PathBuf; 3] {
        let path = |fd: i32| PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()));
        let stdin = self
            .stdin
            .as_ref()
            .map_or_else(|| PathBuf::from("/dev/null"), |(read, _)| path(read.as_raw_fd()));
        [stdin, path(self.stdout.1.as_raw_fd()), path(self.stderr.1.as_raw_fd())]
    }

    /// Ours alone, so that the end of the process is the end of its output.
    fn ours(self) -> std::io::Result<Streams> {
        Ok(Streams::Pipes {
            stdin: self
                .stdin
                .map(|(_, write)| pipe::Sender::from_owned_fd(write.into()))
                .transpose()?,
            stdout: pipe::Receiver::from_owned_fd(self.stdout.0.into())?,
            stderr: pipe::Receiver::from_owned_fd(self.stderr.0.into())?,
        })
    }
}
