//! The streaming server of Exec, Attach and PortForward: on loopback, behind tokens that work once.

mod forward;
mod terminal;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use remotecommand::{ServerSession, StreamOptions, status};
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;

use self::terminal::Terminal;
use crate::container::Container;
use crate::exec::{self, Streams};
use crate::monitor::wire::Kind;
use crate::monitor_client::{Connection, Requests};
use crate::sandbox::Sandbox;
use crate::state::Runtime;

/// A token is used at once or not at all.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// Where streams are served, and what has been promised to whom.
pub(crate) struct Streaming {
    address: SocketAddr,
    promised: Mutex<BTreeMap<String, (Instant, Promise)>>,
}

/// What a token stands for.
enum Promise {
    Job(Job),
    /// Connections to the ports of a sandbox.
    Ports(Arc<Sandbox>),
}

/// A session with a container.
pub(crate) struct Job {
    pub(crate) container: Arc<Container>,
    pub(crate) streams: StreamOptions,
    /// A command to run; none to attach to the container itself.
    pub(crate) command: Option<Vec<String>>,
}

impl Streaming {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            promised: Mutex::default(),
        }
    }

    /// A URL at which the job is done, once.
    pub(crate) fn promise(&self, job: Job) -> String {
        let verb = if job.command.is_some() { "exec" } else { "attach" };
        self.keep(verb, Promise::Job(job))
    }

    /// A URL at which the ports of a sandbox can be reached, in one session.
    pub(crate) fn promise_ports(&self, sandbox: Arc<Sandbox>) -> String {
        self.keep("portforward", Promise::Ports(sandbox))
    }

    fn keep(&self, verb: &str, promise: Promise) -> String {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let url = format!("http://{}/{verb}/{token}", self.address);
        let mut promised = self.promised.lock().expect("no holder panics");
        promised.retain(|_, (since, _)| since.elapsed() < TOKEN_LIFE);
        promised.insert(token, (Instant::now(), promise));
        url
    }

    fn take(&self, token: &str) -> Option<Promise> {
        let (since, promise) = self.promised.lock().expect("no holder panics").remove(token)?;
        (since.elapsed() < TOKEN_LIFE).then_some(promise)
    }
}

/// Serves streams until the runtime shuts down.
pub(crate) async fn serve(runtime: Arc<Runtime>, listener: TcpListener) -> io::Result<()> {
    let shutdown = runtime.shutdown.clone();
    let router = Router::new()
        .route("/exec/{token}", any(stream))
        .route("/attach/{token}", any(stream))
        .route("/portforward/{token}", any(stream))
        .with_state(runtime);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn stream(State(runtime): State<Arc<Runtime>>, Path(token): Path<String>, mut request: Request) -> Response {
    let job = match runtime.streaming.take(&token) {
        None => return (StatusCode::NOT_FOUND, "no such stream, or its token was used already").into_response(),
        Some(Promise::Ports(sandbox)) => return forward::serve(&runtime, sandbox, &mut request),
        Some(Promise::Job(job)) => job,
    };
    match remotecommand::accept(&mut request, job.streams) {
        Err(refused) => (refused.status_code(), refused.to_string()).into_response(),
        Ok((response, pending)) => {
            let (tasks, shutdown) = (runtime.tasks.clone(), runtime.shutdown.clone());
            tasks.spawn(shutdown.run_until_cancelled_owned(async move {
                match pending.session().await {
                    Ok(session) => serve_session(&runtime, job, session).await,
                    Err(error) => tracing::debug!(%error, "a stream was not opened"),
                }
            }));
            response.map(|()| Body::empty())
        }
    }
}

async fn serve_session(runtime: &Runtime, job: Job, mut session: ServerSession) {
    let served = match job.command.clone() {
        Some(command) => serve_exec(runtime, &job, command, &mut session).await,
        None => serve_attach(&job, &mut session)
            .await
            .map_err(|error| error.to_string()),
    };
    let result = match served {
        Ok(0) => status::success(),
        Ok(code) => status::exit_code(code),
        Err(message) => status::internal_error(&message),
    };
    session.finish(result).await;
}

async fn serve_exec(
    runtime: &Runtime,
    job: &Job,
    command: Vec<String>,
    session: &mut ServerSession,
) -> Result<i32, String> {
    let request = exec::Request {
        command,
        tty: job.streams.tty,
        stdin: job.streams.stdin,
    };
    let started = runtime
        .exec(&job.container, request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let (streams, mut process) = started.split();
    let gone = session.gone();
    let serving = async {
        match streams {
            Streams::Pipes { stdin, stdout, stderr } => serve_pipes(session, stdin, stdout, stderr).await,
            Streams::Terminal(master) => serve_terminal(session, Terminal::new(master)?).await,
        }
    };
    let ended = async {
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            // Output ends with the process, or before.
            done = &mut serving => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a stream broke");
                }
                process.wait().await
            }
            code = process.wait() => {
                // What it wrote last is still in its pipes; its children may keep them open for ever.
                tokio::time::timeout(Duration::from_secs(2), serving).await.map(drop).unwrap_or_default();
                code
            }
        }
    };
    tokio::select! {
        code = ended => code.map_err(|status| status.message().to_owned()),
        // Dropping the process kills it: nobody wants it any more.
        () = gone.cancelled() => Err("the client is gone".to_owned()),
    }
}

/// Moves bytes until both outputs have ended; input alone does not keep a process alive.
async fn serve_pipes(
    session: &mut ServerSession,
    stdin: Option<impl AsyncWrite + Unpin>,
    stdout: tokio::net::unix::pipe::Receiver,
    stderr: tokio::net::unix::pipe::Receiver,
) -> io::Result<()> {
    let (input, out, err) = (session.stdin.take(), session.stdout.take(), session.stderr.take());
    let feed = async {
        if let (Some(mut input), Some(stdin)) = (input, stdin) {
            // A process that does not read its input is no error.
            input.copy_to(stdin).await.unwrap_or_default();
        }
        std::future::pending::<()>().await;
    };
    let outputs = async {
        let drain = async |output: Option<remotecommand::Output>, mut pipe| match output {
            Some(output) => output.copy_from(pipe).await,
            None => tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await.map(drop),
        };
        let (out, err) = tokio::join!(drain(out, stdout), drain(err, stderr));
        out.and(err)
    };
    tokio::select! {
        done = outputs => done,
        () = feed => Ok(()),
    }
}

async fn serve_terminal(session: &mut ServerSession, terminal: Terminal) -> io::Result<()> {
    let (input, output, resize) = (session.stdin.take(), session.stdout.take(), session.resize.take());
    let feed = async {
        if let Some(mut input) = input {
            while let Some(bytes) = input.recv().await {
                terminal.write(&bytes).await?;
            }
        }
        std::future::pending::<io::Result<()>>().await
    };
    let sizes = async {
        if let Some(mut resize) = resize {
            while let Some(size) = resize.recv().await {
                terminal.resize(size.width, size.height)?;
            }
        }
        std::future::pending::<io::Result<()>>().await
    };
    let shown = async {
        while let Some(bytes) = terminal.read().await? {
            if let Some(output) = &output
                && output.send(bytes).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        done = shown => done,
        done = feed => done,
        done = sizes => done,
    }
}

/// Joins a client with a container's monitor until the container ends or the client leaves.
async fn serve_attach(job: &Job, session: &mut ServerSession) -> io::Result<i32> {
    let mut monitor = Connection::open(&job.container.folder).await?;
    monitor.request(Kind::Attach, &[]).await.map_err(io::Error::other)?;
    let Connection {
        mut frames,
        mut requests,
    } = monitor;
    let (input, out, err, resize) = (
        session.stdin.take(),
        session.stdout.take(),
        session.stderr.take(),
        session.resize.take(),
    );
    let gone = session.gone();
    let feed = feed_attached(&mut requests, input, resize, job.container.config.stdin_once);
    let shown = async {
        while let Some((kind, bytes)) = frames.next().await? {
            let output = match kind {
                Kind::Stdout => &out,
                Kind::Stderr => &err,
                Kind::Exited => break,
                _ => continue,
            };
            if let Some(output) = output
                && output.send(bytes.into()).await.is_err()
            {
                break;
            }
        }
        Ok(0)
    };
    tokio::select! {
        done = shown => done,
        done = feed => done.map(|()| 0),
        () = gone.cancelled() => Ok(0),
    }
}

async fn feed_attached(
    requests: &mut Requests,
    mut input: Option<remotecommand::Input>,
    mut resize: Option<tokio::sync::mpsc::Receiver<remotecommand::TerminalSize>>,
    stdin_once: bool,
) -> io::Result<()> {
    loop {
        let next_input = async {
            match &mut input {
                Some(input) => input.recv().await,
                None => std::future::pending().await,
            }
        };
        let next_size = async {
            match &mut resize {
                Some(resize) => resize.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = next_input => match bytes {
                Some(bytes) => {
                    for piece in bytes.chunks(crate::monitor::wire::PAYLOAD_SIZE_BYTES_MAX) {
                        requests.send(Kind::Stdin, piece).await?;
                    }
                }
                None => {
                    input = None;
                    // Otherwise the next one to attach may go on writing.
                    if stdin_once {
                        requests.send(Kind::Stdin, &[]).await?;
                    }
                }
            },
            size = next_size => match size {
                Some(size) => {
                    let [w, h] = [size.width.to_be_bytes(), size.height.to_be_bytes()];
                    requests.send(Kind::Resize, &[w[0], w[1], h[0], h[1]]).await?;
                }
                None => resize = None,
            },
        }
    }
}
