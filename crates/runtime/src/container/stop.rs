//! StopContainer and RemoveContainer.

use std::sync::Arc;
use std::time::Duration;

use cri::v1::{ContainerEventType, ContainerState};
use tonic::Status;

use super::{Container, RECORD};
use crate::cgroup::Cgroup;
use crate::disk;
use crate::failure::{blocking, internal};
use crate::monitor::plan::{MONITOR, PLAN, Plan};
use crate::process::Process;
use crate::rootfs;
use crate::signals;
use crate::state::Runtime;

/// After SIGKILL a process ends as soon as the kernel lets it; this is for those stuck in it.
const KILL_GRACE: Duration = Duration::from_secs(10);

impl Runtime {
    /// Ends a container: in good order within `grace`, by force after it. Ended already is fine.
    pub(crate) async fn stop_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        grace: Duration,
    ) -> Result<(), Status> {
        if container.state() == ContainerState::ContainerExited {
            return Ok(());
        }
        // A container that was never started cannot handle a signal.
        if container.is_running() && !grace.is_zero() {
            // The process is ours to signal; the OCI runtime's word for it would take longer than most need to end.
            if let (Ok(Some(process)), Some(signal)) =
                (container.process(), signals::number(&container.record.stop_signal))
            {
                process.signal(signal);
            } else {
                tracing::warn!(container = container.id, "cannot send the stop signal");
            }
            if ended(container, grace).await {
                return Ok(());
            }
        }
        let cgroup = Cgroup::new(&container.record.cgroup);
        cgroup.kill();
        if let Ok(Some(process)) = container.process() {
            process.kill();
        }
        if ended(container, KILL_GRACE).await {
            return Ok(());
        }
        Err(Status::deadline_exceeded(format!(
            "container {} does not end though it was killed",
            container.id
        )))
    }

    /// Removes a container, by force if it runs.
    pub(crate) async fn remove_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Status> {
        let _changing = container.changing.lock().await;
        self.stop_container(container, Duration::ZERO).await?;
        // From here on a restart of the server finishes what we began.
        disk::remove_file(&container.folder.join(RECORD)).map_err(internal("cannot remove the container"))?;
        self.undo_container(&container.id, &Cgroup::new(&container.record.cgroup))
            .await?;
        if self
            .containers
            .lock()
            .expect("no holder panics")
            .remove(&container.id)
            .is_some()
        {
            self.announce(container, ContainerEventType::ContainerDeletedEvent);
        }
        Ok(())
    }

    /// Removes all traces of a container, complete or half-made; its log stays.
    pub(crate) async fn undo_container(&self, id: &str, cgroup: &Cgroup) -> Result<(), Status> {
        let plan = disk::read_json::<Plan>(&self.container_folder(id).join(PLAN));
        // One that is not planned yet was not made by any OCI runtime.
        if let Ok(Some(plan)) = plan
            && let Err(error) = self.driver.delete(&plan.runtime, id).await
        {
            tracing::debug!(container = id, error, "the OCI runtime cannot remove the container");
        }
        let (folder, cgroup) = (self.container_folder(id), cgroup.clone());
        blocking(move || {
            cgroup.kill();
            if let Ok(Some(monitor)) = disk::read_json::<Process>(&folder.join(MONITOR)) {
                // It ends by itself with its container, unless it never had one.
                monitor.kill();
            }
            rootfs::unmount_layers(&folder).map_err(internal("cannot unmount the root filesystem"))?;
            disk::remove_folder(&folder).map_err(internal("cannot remove the container's files"))?;
            cgroup.remove();
            Ok(())
        })
        .await
    }
}

/// Whether the container ends within `limit`.
async fn ended(container: &Container, limit: Duration) -> bool {
    let mut progress = container.progress.subscribe();
    let exited = progress.wait_for(|progress| progress.exit.is_some());
    matches!(tokio::time::timeout(limit, exited).await, Ok(Ok(_)))
}
