//! `exec`: another process in a running container.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::args::Exec;
use crate::commands::{builder, folder, load};
use crate::executor::ExecProgram;

pub(crate) fn run(root: &Path, args: Exec) -> anyhow::Result<i32> {
    let desk = Desk::new(root, &args.id)?;
    let terminal = wants_terminal(&args.process)?;
    let program = ExecProgram {
        seccomp: filter(root, &args.id)?,
    };
    let pid = builder(&desk.root, args.id, program)?
        .with_pid_file(args.pid_file)?
        .with_console_socket(args.console_socket)
        .as_tenant()
        .with_process(Some(&args.process))
        // libcontainer accepts a console socket only for a detached process; waiting is ours in any case.
        .with_detach(args.detach || terminal)
        .build()?;
    drop(desk);
    if args.detach {
        Ok(0)
    } else {
        wait(Pid::from_raw(pid.as_raw()))
    }
}

/// The seccomp filter of a container.
fn filter(root: &Path, id: &str) -> anyhow::Result<Option<LinuxSeccomp>> {
    let config = load(root, id)?.bundle().join("config.json");
    let spec = Spec::load(&config).with_context(|| format!("cannot read {config:?}"))?;
    Ok(spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()))
}

fn wants_terminal(process: &Path) -> anyhow::Result<bool> {
    let file = File::open(process).with_context(|| format!("cannot open {process:?}"))?;
    let process: serde_json::Value =
        serde_json::from_reader(file).with_context(|| format!("cannot read {process:?}"))?;
    Ok(process["terminal"].as_bool().unwrap_or(false))
}

fn wait(pid: Pid) -> anyhow::Result<i32> {
    loop {
        match waitpid(pid, None).context("cannot wait for the process")? {
            WaitStatus::Exited(_, code) => return Ok(code),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}

/// A private state folder for one exec, removed at its end.
///
/// libcontainer leaves a socket in the container's folder for each exec; with a probe every second they would pile up,
/// and they cannot be swept without breaking an exec that runs at the same time.
struct Desk {
    root: PathBuf,
}

impl Desk {
    fn new(root: &Path, id: &str) -> anyhow::Result<Self> {
        let state = folder(root, id)?.join("state.json");
        let state = std::fs::read(&state).with_context(|| format!("container {id:?} does not exist"))?;
        let desk = Self {
            root: root.join(format!(".exec-{}", std::process::id())),
        };
        let container = desk.root.join(id);
        std::fs::create_dir_all(&container).with_context(|| format!("cannot make {container:?}"))?;
        std::fs::write(container.join("state.json"), state).with_context(|| format!("cannot fill {container:?}"))?;
        Ok(desk)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            tracing::error!(%error, root = ?self.root, "cannot remove the folder of an exec");
        }
    }
}
