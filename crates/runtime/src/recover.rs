//! Finds everything again after a restart, and clears away what was being made when the last server ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statfs::{NSFS_MAGIC, statfs};

use crate::Config;
use crate::cgroup::Cgroup;
use crate::container::{self, Container};
use crate::disk;
use crate::namespaces;
use crate::sandbox::{Phase, Sandbox};
use crate::state::Runtime;

/// What the disk says.
pub(crate) struct Found {
    pub(crate) sandboxes: BTreeMap<String, Arc<Sandbox>>,
    pub(crate) containers: BTreeMap<String, Arc<Container>>,
    /// Folders that never became whole.
    pub(crate) fragments: Fragments,
}

/// What has to be cleared away before calls are served.
#[derive(Default)]
pub(crate) struct Fragments {
    sandboxes: Vec<Arc<Sandbox>>,
    sandbox_ids: BTreeSet<String>,
    container_ids: BTreeSet<String>,
}

/// Reads all sandboxes and containers.
pub(crate) fn find(config: &Config) -> io::Result<Found> {
    let rebooted = rebooted(config)?;
    let mut found = Found {
        sandboxes: BTreeMap::new(),
        containers: BTreeMap::new(),
        fragments: Fragments::default(),
    };
    for (id, folder) in folders(&config.root.join("sandboxes"))? {
        match Sandbox::load(&folder)?.map(Arc::new) {
            Some(sandbox) if sandbox.record().phase == Phase::Making => found.fragments.sandboxes.push(sandbox),
            Some(sandbox) => drop(found.sandboxes.insert(id, sandbox)),
            None => drop(found.fragments.sandbox_ids.insert(id)),
        }
    }
    for (id, _) in folders(&config.state.join("ns"))? {
        let known =
            found.sandboxes.contains_key(&id) || found.fragments.sandboxes.iter().any(|sandbox| sandbox.id == id);
        if !known {
            found.fragments.sandbox_ids.insert(id);
        }
    }
    for (id, folder) in folders(&config.root.join("containers"))? {
        match Container::load(&folder)? {
            Some(container) if found.sandboxes.contains_key(&container.record.sandbox_id) => {
                if rebooted && container.progress.borrow().exit.is_none() {
                    container::lost(&container, "the machine was restarted")?;
                }
                found.containers.insert(id, Arc::new(container));
            }
            _ => drop(found.fragments.container_ids.insert(id)),
        }
    }
    Ok(found)
}

/// Whether the machine has started since the last server; process ids mean nothing then.
fn rebooted(config: &Config) -> io::Result<bool> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let path = config.root.join("boot");
    let known: Option<String> = disk::read_json(&path)?;
    if known.as_ref() == Some(&boot) {
        return Ok(false);
    }
    disk::write_json(&path, &boot)?;
    Ok(known.is_some())
}

fn folders(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_dir()) {
            folders.push((name, entry.path()));
        }
    }
    Ok(folders)
}

impl Runtime {
    /// Clears fragments away and takes up what runs.
    pub(crate) async fn recover(self: &Arc<Self>, fragments: Fragments) {
        // Execs end with the server that wanted them.
        for name in ["exec", "logs", "tty"] {
            if let Err(error) = disk::remove_folder(&self.config.state.join(name)) {
                tracing::warn!(name, %error, "cannot clear away what execs have left");
            }
        }
        for id in fragments.container_ids {
            let cgroup = cgroup_of_fragment(&self.container_folder(&id))
                .unwrap_or_else(|| self.config.cgroup_parent.clone() + "/" + &id);
            report(self.undo_container(&id, &Cgroup::new(&cgroup)).await, "container", &id);
        }
        for sandbox in fragments.sandboxes {
            report(self.undo_sandbox(&sandbox).await, "sandbox", &sandbox.id);
        }
        for id in fragments.sandbox_ids {
            report(self.clear_sandbox(&id).await, "sandbox", &id);
        }
        for sandbox in self.all_sandboxes() {
            if sandbox.record().phase == Phase::Ready && !self.is_whole(&sandbox) {
                tracing::info!(
                    sandbox = sandbox.id,
                    "the namespaces of a pod are gone, so it is stopped"
                );
                report(self.stop_sandbox(&sandbox).await, "sandbox", &sandbox.id);
            }
        }
        for container in self.all_containers() {
            if container.progress.borrow().exit.is_none() {
                self.watch(&container);
            }
        }
        if let Err(error) = self.images.sweep(&self.layers_in_use()) {
            tracing::warn!(error = crate::failure::chain(&error), "cannot sweep the image store");
        }
    }

    /// Removes what a sandbox without a record may have left.
    async fn clear_sandbox(&self, id: &str) -> Result<(), tonic::Status> {
        let failed = crate::failure::internal::<io::Error>;
        self.network
            .disconnect(id)
            .await
            .map_err(crate::failure::internal("cannot disconnect the pod"))?;
        namespaces::release(&self.namespaces_folder(id)).map_err(failed("cannot let the pod's namespaces go"))?;
        let folder = self.sandbox_folder(id);
        namespaces::unmount(&crate::sandbox::shm(&folder)).map_err(failed("cannot unmount the pod's shared memory"))?;
        disk::remove_folder(&folder).map_err(failed("cannot remove the pod's files"))
    }

    /// Whether the namespaces of a sandbox are still held.
    fn is_whole(&self, sandbox: &Sandbox) -> bool {
        let held = self.namespaces_folder(&sandbox.id);
        let wanted = sandbox.namespaces(&held, crate::spec::PidNamespace::Own);
        [wanted.network, wanted.ipc, wanted.uts]
            .iter()
            .flatten()
            .all(|path| is_namespace(path))
    }
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|filesystem| filesystem.filesystem_type() == NSFS_MAGIC)
}

fn cgroup_of_fragment(folder: &Path) -> Option<String> {
    let spec: serde_json::Value = disk::read_json(&folder.join("config.json")).ok()??;
    spec["linux"]["cgroupsPath"].as_str().map(str::to_owned)
}

fn report(done: Result<(), tonic::Status>, what: &str, id: &str) {
    if let Err(status) = done {
        tracing::warn!(
            what,
            id,
            error = status.message(),
            "cannot clear away what was being made"
        );
    }
}
