//! Keeps container logs from filling the disk: a log that has grown too large is put aside and begun anew.

use crate::run::Node;
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, RESTART_COUNT, timed};
use cri::v1::{Container, ContainerState, ReopenContainerLogRequest};
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks, as kubelets do.
const PERIOD: Duration = Duration::from_secs(10);
/// A larger log is rotated (`containerLogMaxSize`).
const BYTES_MAX: u64 = 10 << 20;
/// Files kept of one container besides the current one (`containerLogMaxFiles` less one).
const OLD_FILES_MAX: usize = 4;
const REOPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Rotates logs until shutdown.
pub(crate) async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let Ok(containers) = node.runtime.list_containers(None).await else {
            continue;
        };
        for container in containers
            .iter()
            .filter(|c| c.state == ContainerState::ContainerRunning as i32)
        {
            let path = log_path(&node.config.log_dir, container);
            if let Err(error) = rotate_if_large(&node, &path, &container.id).await {
                tracing::warn!(%error, path = %path.display(), "a log could not be rotated, trying again");
            }
        }
    }
}

fn log_path(log_dir: &Path, container: &Container) -> PathBuf {
    let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
    let pod = format!("{}_{}_{}", label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
    let restarts = container.annotations.get(RESTART_COUNT).map_or("0", String::as_str);
    log_dir
        .join(pod)
        .join(label(CONTAINER_NAME))
        .join(format!("{restarts}.log"))
}

async fn rotate_if_large(node: &Node, path: &Path, container_id: &str) -> io::Result<()> {
    let size = match tokio::fs::metadata(path).await {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if size <= BYTES_MAX {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", Timestamp::now().strftime("%Y%m%d-%H%M%S")));
    tokio::fs::rename(path, &aside).await?;
    let request = ReopenContainerLogRequest {
        container_id: container_id.to_owned(),
    };
    let reopened = node
        .runtime
        .containers
        .clone()
        .reopen_container_log(timed(request, REOPEN_TIMEOUT))
        .await;
    if let Err(status) = reopened {
        // The runtime still writes to the file that was put aside.
        tokio::fs::rename(&aside, path).await?;
        return Err(io::Error::other(status.message().to_owned()));
    }
    remove_old(path).await
}

/// Removes all but the newest of the files that were put aside.
async fn remove_old(path: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut entries = tokio::fs::read_dir(dir).await?;
    let mut old = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            old.push(entry.path());
        }
    }
    // Their names end with the time.
    old.sort_unstable();
    let surplus = old.len().saturating_sub(OLD_FILES_MAX);
    for path in &old[..surplus] {
        tokio::fs::remove_file(path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_old_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for day in 1..=7 {
            std::fs::write(dir.path().join(format!("0.log.2026110{day}-000000")), "").unwrap();
        }
        std::fs::write(dir.path().join("1.log"), "").unwrap();
        remove_old(&path).await.unwrap();
        let mut left: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 5);
        assert_eq!(left[0], "0.log.20261104-000000");
    }
}
