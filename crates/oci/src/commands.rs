//! The commands of the OCI runtime command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;

use crate::args::{Args, Command, Create};
use crate::executor::ExecProgram;
use crate::{exec, signals};

/// Runs the command; the result is the exit code.
pub(crate) fn run(args: Args) -> anyhow::Result<i32> {
    std::fs::create_dir_all(&args.root).with_context(|| format!("cannot make the state folder {:?}", args.root))?;
    let root = args
        .root
        .canonicalize()
        .with_context(|| format!("cannot use the state folder {:?}", args.root))?;
    match args.command {
        Command::Create(create) => create_container(&root, create)?,
        Command::Start { id } => load(&root, &id)?.start()?,
        Command::State { id } => println!("{}", state(&load(&root, &id)?)?),
        Command::Kill { all, id, signal } => kill(&root, &id, &signal, all)?,
        Command::Delete { force, id } => delete(&root, &id, force)?,
        Command::Exec(args) => return exec::run(&root, args),
    }
    Ok(0)
}

fn create_container(root: &Path, args: Create) -> anyhow::Result<()> {
    let bundle = args
        .bundle
        .canonicalize()
        .with_context(|| format!("cannot open bundle {:?}", args.bundle))?;
    builder(root, args.id, ExecProgram::default())?
        .with_pid_file(args.pid_file)?
        .with_console_socket(args.console_socket)
        .as_init(&bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    Ok(())
}

pub(crate) fn builder(root: &Path, id: String, program: ExecProgram) -> anyhow::Result<ContainerBuilder> {
    let builder = ContainerBuilder::new(id, SyscallType::default())
        .with_executor(program)
        .validate_id()?;
    Ok(builder.with_root_path(root)?)
}

pub(crate) fn folder(root: &Path, id: &str) -> anyhow::Result<PathBuf> {
    if id.is_empty() || id == "." || id == ".." || id.contains('/') {
        bail!("{id:?} is not a container id");
    }
    Ok(root.join(id))
}

pub(crate) fn load(root: &Path, id: &str) -> anyhow::Result<Container> {
    let folder = folder(root, id)?;
    if !folder.exists() {
        bail!("container {id:?} does not exist");
    }
    Container::load(folder).with_context(|| format!("cannot read the state of container {id:?}"))
}

fn state(container: &Container) -> anyhow::Result<String> {
    let status = match container.status() {
        ContainerStatus::Creating => "creating",
        ContainerStatus::Created => "created",
        ContainerStatus::Running => "running",
        ContainerStatus::Stopped => "stopped",
        ContainerStatus::Paused => "paused",
    };
    let stopped = container.status() == ContainerStatus::Stopped;
    let pid = container.pid().filter(|_| !stopped).map_or(0, nix_pid);
    let state = serde_json::json!({
        "ociVersion": container.state.oci_version,
        "id": container.id(),
        "pid": pid,
        "status": status,
        "bundle": container.bundle(),
        "annotations": container.state.annotations,
    });
    Ok(serde_json::to_string_pretty(&state)?)
}

/// libcontainer's process ids are of another version of nix.
fn nix_pid(pid: impl Into<i32>) -> i32 {
    pid.into()
}

fn kill(root: &Path, id: &str, text: &str, all: bool) -> anyhow::Result<()> {
    let number = signals::number(text).with_context(|| format!("unknown signal {text:?}"))?;
    let mut container = load(root, id)?;
    if !all && container.status() == ContainerStatus::Stopped {
        bail!("container not running");
    }
    match Signal::try_from(number) {
        Ok(signal) => container.kill(signal, all)?,
        // Real-time signals exist only as numbers.
        Err(_) => {
            let pid = container.pid().map(nix_pid).context("container has no process")?;
            // SAFETY: kill(2) touches no memory of ours.
            let done = unsafe { nix::libc::kill(pid, number) };
            nix::errno::Errno::result(done).context("cannot send the signal")?;
        }
    }
    Ok(())
}

fn delete(root: &Path, id: &str, force: bool) -> anyhow::Result<()> {
    let folder = folder(root, id)?;
    if force && !folder.exists() {
        return Ok(());
    }
    match load(root, id) {
        Ok(mut container) => Ok(container.delete(force)?),
        // A crash between mkdir and the first state leaves a folder that only force may remove.
        Err(_) if force => std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder:?}")),
        Err(error) => Err(error),
    }
}
