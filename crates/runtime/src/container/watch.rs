//! Notices when a container ends, and tells those who listen.

use std::io;
use std::sync::Arc;

use cri::v1::{ContainerEventResponse, ContainerEventType};

use super::{Container, Progress};
use crate::cgroup::Cgroup;
use crate::disk;
use crate::monitor::plan::{EXIT, Exit, now};
use crate::monitor::wire::Kind;
use crate::monitor_client::Connection;
use crate::state::Runtime;

impl Runtime {
    /// Follows a container to its end, in a task of its own.
    pub(crate) fn watch(self: &Arc<Self>, container: &Arc<Container>) {
        let (runtime, container) = (Arc::clone(self), Arc::clone(container));
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(shutdown.run_until_cancelled_owned(async move {
            // Any end of the connection is the monitor's; the record says whether it is the container's too.
            if let Err(error) = listen(&container).await {
                tracing::debug!(container = container.id, %error, "the container's monitor is gone");
            }
            match settle(&container) {
                Ok(_) => runtime.announce(&container, ContainerEventType::ContainerStoppedEvent),
                Err(error) => tracing::error!(container = container.id, %error, "cannot read how the container ended"),
            }
        }));
    }

    /// Tells listeners of an event.
    pub(crate) fn announce(&self, container: &Container, kind: ContainerEventType) {
        let sandbox = self.sandbox(&container.record.sandbox_id).ok();
        let event = ContainerEventResponse {
            container_id: container.id.clone(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status: sandbox.as_ref().map(|sandbox| sandbox.status()),
            containers_statuses: self
                .containers_of(&container.record.sandbox_id)
                .iter()
                .map(|container| container.status())
                .collect(),
        };
        // Nobody listening is usual.
        self.events.send(event).map(drop).unwrap_or_default();
    }
}

async fn listen(container: &Container) -> io::Result<()> {
    let mut monitor = Connection::open(&container.folder).await?;
    monitor.requests.send(Kind::Watch, &[]).await?;
    while let Some((kind, _)) = monitor.frames.next().await? {
        if kind == Kind::Exited {
            break;
        }
    }
    Ok(())
}

/// Reads how a container without a monitor ended; if nobody knows, ends it and says so.
pub(super) fn settle(container: &Container) -> io::Result<Progress> {
    let progress = container.refresh()?;
    if progress.exit.is_some() {
        return Ok(progress);
    }
    // Without its monitor a container cannot write or be waited for, so it must not go on.
    Cgroup::new(&container.record.cgroup).kill();
    if let Some(process) = container.process()? {
        process.kill();
    }
    lost(container, "the process that owned the container was killed")
}

/// Records an end that nobody saw.
pub(crate) fn lost(container: &Container, message: &str) -> io::Result<Progress> {
    let exit = Exit {
        code: 137,
        oom: false,
        at: now(),
        reason: Some("Error".to_owned()),
        message: message.to_owned(),
    };
    disk::write_json(&container.folder.join(EXIT), &exit)?;
    container.refresh()
}
