//! Follows the zone that this node is in.

use api::k8s::api::core::v1::Node;
use futures::StreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, reflector::Lookup};
use kube::{Api, Client};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Tells the zone, at first and whenever the Node changes, until the future is dropped. A Node that is gone for a while
/// has not moved.
pub(crate) async fn follow(client: Client, node_name: String, tell: impl Fn(Option<String>)) {
    let only = watcher::Config::default().fields(&format!("metadata.name={node_name}"));
    let nodes = watcher(Api::<Node>::all(client), only)
        .default_backoff()
        .applied_objects();
    let mut nodes = std::pin::pin!(nodes);
    while let Some(node) = nodes.next().await {
        match node {
            Ok(node) if node.name().is_some_and(|name| name == node_name) => tell(zone_of(&node)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the watch of this node is interrupted"),
        }
    }
}

fn zone_of(node: &Node) -> Option<String> {
    let zone = node.metadata.labels.as_ref()?.get(ZONE_LABEL)?;
    (!zone.is_empty()).then(|| zone.clone())
}
