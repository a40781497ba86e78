//! Ends everything that an agent has left: for `steadfast down` and `steadfast reset`.

use crate::cgroup;
use crate::config::DEFAULT_CGROUP_ROOT;
use crate::csi::mount::staging_root;
use crate::runtime::Runtime;
use crate::volumes::{mounts, take_away, tree};
use std::path::{Path, PathBuf};

/// Why not everything could be ended.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The endpoint makes no sense.
    #[error("the runtime endpoint cannot be used")]
    Endpoint(#[from] cri::ConnectError),
    /// The runtime refused or did not answer.
    #[error("{what}")]
    Runtime {
        /// What was asked of it.
        what: String,
        /// Its answer.
        #[source]
        source: Box<tonic::Status>,
    },
    /// A pod's directory could not be removed.
    #[error("cannot remove the directory of pod {uid}: {why}")]
    Directory {
        /// The pod.
        uid: String,
        /// What hindered it.
        why: String,
    },
    /// The agent's directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Stops and removes all sandboxes that the agent with this root made in the runtime at `endpoint`, and unmounts and
/// removes the pods' directories below it. PersistentVolumes are left alone, and so is everything outside `root_dir`.
///
/// # Errors
/// [`CleanupError`]; what was done stays done, and the call can be made again.
pub async fn remove_all(endpoint: &str, root_dir: &Path) -> Result<(), CleanupError> {
    let root = root_dir.canonicalize().unwrap_or_else(|_| root_dir.to_path_buf());
    let runtime = Runtime::new(cri::connect(endpoint)?, root.to_string_lossy().into_owned());
    let failed = |what: String| {
        move |status: tonic::Status| CleanupError::Runtime {
            what,
            source: Box::new(status),
        }
    };
    let sandboxes = runtime
        .sandboxes(None)
        .await
        .map_err(failed("cannot list the sandboxes".into()))?;
    let mut stops = tokio::task::JoinSet::new();
    for sandbox in sandboxes {
        let runtime = runtime.clone();
        stops.spawn(async move {
            runtime.stop_sandbox(&sandbox.id).await?;
            runtime.remove_sandbox(&sandbox.id).await
        });
    }
    while let Some(stopped) = stops.join_next().await {
        let stopped = stopped.unwrap_or_else(|e| Err(tonic::Status::internal(e.to_string())));
        stopped.map_err(failed("cannot stop and remove a sandbox".into()))?;
    }
    for left in runtime
        .list_containers(None)
        .await
        .map_err(failed("cannot list the containers".into()))?
    {
        let what = format!("cannot remove container {}", left.id);
        runtime.remove_container(&left.id).await.map_err(failed(what))?;
    }
    remove_directories(&root).await?;
    cgroup::remove_all(DEFAULT_CGROUP_ROOT);
    Ok(())
}

/// The first thing that is mounted below a directory, if there is one: removing the directory would reach into it.
///
/// # Errors
/// If the kernel's table of mounts or the directory cannot be read.
pub fn mounted_below(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    let real = std::fs::canonicalize(directory)?;
    let points = mounts::mount_points()?.into_iter();
    Ok(points
        .filter(|point| *point != real)
        .find(|point| point.starts_with(&real)))
}

async fn remove_directories(root: &Path) -> Result<(), CleanupError> {
    let pods = root.join("pods");
    let read = |source| CleanupError::Read {
        path: pods.clone(),
        source,
    };
    let mut entries = match tokio::fs::read_dir(&pods).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read(error)),
    };
    while let Some(entry) = entries.next_entry().await.map_err(read)? {
        let uid = entry.file_name().to_string_lossy().into_owned();
        take_away(root, None, &uid)
            .await
            .map_err(|why| CleanupError::Directory { uid, why })?;
    }
    mounts::unmount_below(&pods).map_err(read)?;
    // What drivers staged there.
    let staged = staging_root(root);
    let removed = mounts::unmount_below(&staged).and_then(|()| tree::remove(&staged));
    removed.map_err(|source| CleanupError::Read { path: staged, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_a_directory_is_seen_and_the_directory_itself_does_not_count() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().canonicalize().unwrap().join("disk");
        let inner = disk.join("inner");
        std::fs::create_dir(&disk).unwrap();
        mounts::mount_tmpfs(&disk, None).unwrap();
        let only_itself = mounted_below(&disk).unwrap();
        std::fs::create_dir(&inner).unwrap();
        mounts::mount_tmpfs(&inner, None).unwrap();
        let found = mounted_below(&disk).unwrap();
        mounts::unmount_below(&disk).unwrap();
        assert_eq!((only_itself, found), (None, Some(inner)));
        assert_eq!(mounted_below(dir.path()).unwrap(), None);
    }
}
