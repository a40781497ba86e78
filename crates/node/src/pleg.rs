//! Hears of what happens in the runtime and wakes the pods' workers: by its events where it offers them, else by looking
//! every second.

use crate::pods::Registry;
use crate::runtime::{POD_UID, Runtime};
use cri::v1::{GetEventsRequest, PodSandboxState};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at a runtime without events, as kubelets do.
const RELIST: Duration = Duration::from_secs(1);
/// Between two looks at a runtime with events, in case one was missed.
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(60);

/// What is true of each sandbox and container: its pod and state.
type Picture = BTreeMap<String, (String, i32)>;

/// Watches the runtime until shutdown.
pub(crate) async fn run(runtime: Runtime, registry: Registry, shutdown: CancellationToken) {
    let work = async {
        loop {
            let stream = runtime
                .containers
                .clone()
                .get_container_events(GetEventsRequest {})
                .await;
            match stream {
                Ok(events) => {
                    tracing::debug!("the runtime tells its events");
                    // What happened before the stream began is found by looking.
                    registry.wake_all();
                    follow(events.into_inner(), &registry).await;
                    registry.wake_all();
                }
                Err(status) if status.code() == tonic::Code::Unimplemented => {
                    tracing::debug!("the runtime has no events, looking every second");
                    relist(&runtime, &registry).await;
                }
                Err(status) => tracing::debug!(error = %status, "the runtime's events are not to be had, trying again"),
            }
            tokio::time::sleep(RELIST).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn follow(mut events: tonic::Streaming<cri::v1::ContainerEventResponse>, registry: &Registry) {
    loop {
        match tokio::time::timeout(RELIST_WITH_EVENTS, events.message()).await {
            Err(_) => registry.wake_all(),
            Ok(Ok(Some(event))) => {
                let status = event.pod_sandbox_status.unwrap_or_default();
                let uid = status.metadata.map(|m| m.uid).unwrap_or_default();
                registry.wake(&uid);
            }
            Ok(Ok(None)) => return,
            Ok(Err(status)) => {
                tracing::debug!(error = %status, "the stream of runtime events broke");
                return;
            }
        }
    }
}

/// Looks until the runtime does not answer.
async fn relist(runtime: &Runtime, registry: &Registry) {
    let mut before = Picture::new();
    loop {
        let now = match look(runtime).await {
            Ok(now) => now,
            Err(status) => {
                tracing::debug!(error = %status, "the runtime does not answer");
                return;
            }
        };
        let changed = before
            .iter()
            .filter(|(id, was)| now.get(*id) != Some(was))
            .map(|(_, (uid, _))| uid);
        let new = now
            .iter()
            .filter(|(id, _)| !before.contains_key(*id))
            .map(|(_, (uid, _))| uid);
        for uid in changed.chain(new) {
            registry.wake(uid);
        }
        before = now;
        tokio::time::sleep(RELIST).await;
    }
}

async fn look(runtime: &Runtime) -> Result<Picture, tonic::Status> {
    let uid = |labels: &std::collections::HashMap<String, String>| labels.get(POD_UID).cloned().unwrap_or_default();
    let ready = PodSandboxState::SandboxReady as i32;
    let sandboxes = runtime.sandboxes(None).await?;
    let containers = runtime.list_containers(None).await?;
    let sandboxes = sandboxes
        .into_iter()
        .map(|s| (s.id, (uid(&s.labels), i32::from(s.state == ready))));
    let containers = containers.into_iter().map(|c| (c.id, (uid(&c.labels), c.state)));
    Ok(sandboxes.chain(containers).collect())
}
