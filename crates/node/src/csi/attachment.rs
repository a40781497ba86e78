//! Volumes that are attached to this node before they are mounted, by others: by the controller and the driver's attacher.
//!
//! The node's status keeps both sides from doing harm. The agent writes which volumes it uses (`volumesInUse`), and goes on
//! only if the same status then still lists the volume as attached (`volumesAttached`). The controller takes it off that
//! list in a write that fails if the agent has written in between, and detaches it afterwards. What the agent uses is what
//! its records say, so that this outlives it.

use super::record::{self, Record};
use super::source::{Source, hex};
use crate::run::Node;
use crate::volumes::pod_dir;
use api::k8s::api::core::v1::{Node as NodeObject, NodeStatus};
use api::k8s::api::storage::v1::VolumeAttachment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

/// Nobody is told of waiting before this time is over, as by kubelets.
const SILENCE: Duration = Duration::from_secs(123);

/// A volume's name in the status of nodes.
pub(super) fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// Why a volume cannot be mounted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It is not attached; whether it is time to say so.
    NotAttached {
        /// Waiting has taken so long that people should know, or has again.
        is_news: bool,
    },
    /// Anything else.
    Failed(String),
}

impl From<String> for Obstacle {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What attaching a volume gave. That it waits for that is written down, and the API is told that it is in use.
pub(super) async fn attached(
    node: &Node,
    source: &Source,
    record: &Record,
    dir: &Path,
) -> Result<HashMap<String, String>, Obstacle> {
    let (waiting, place) = (record.waiting(), dir.to_path_buf());
    let waited = tokio::task::spawn_blocking(move || waiting.write_waiting(&place)).await;
    let waited = waited.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    if let Some(given) = given(node, source).await? {
        return Ok(given);
    }
    let is_news = waited >= SILENCE;
    if is_news {
        let dir = dir.to_path_buf();
        let begun = tokio::task::spawn_blocking(move || Record::wait_anew(&dir)).await;
        begun.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    Err(Obstacle::NotAttached { is_news })
}

async fn given(node: &Node, source: &Source) -> Result<Option<HashMap<String, String>>, String> {
    let unique = unique_name(&source.driver, &source.handle);
    let status = tell_use(node).await?;
    let listed = status.and_then(|status| status.volumes_attached).unwrap_or_default();
    if !listed.iter().any(|volume| volume.name == unique) {
        return Ok(None);
    }
    let name = format!(
        "csi-{}",
        hex(&format!("{}{}{}", source.handle, source.driver, node.config.node_name))
    );
    let attachments: Api<VolumeAttachment> = Api::all(node.client.clone());
    let attachment = attachments.get_opt(&name).await.map_err(|e| e.to_string())?;
    let status = attachment.and_then(|attachment| attachment.status);
    let status = status.filter(|status| status.attached);
    Ok(status.map(|status| status.attachment_metadata.unwrap_or_default().into_iter().collect()))
}

/// Puts the node's status right if it does not tell what is in use.
pub(crate) async fn keep_told(node: &Node, known: Option<&NodeStatus>) {
    let told = known
        .and_then(|status| status.volumes_in_use.clone())
        .unwrap_or_default();
    let is_right = used(node).await.is_ok_and(|used| used == told.into_iter().collect());
    if !is_right && let Err(why) = tell_use(node).await {
        tracing::warn!(
            why,
            "the node's status does not tell which volumes are in use, trying again"
        );
    }
}

/// Whether a pod has a volume that was to be attached first.
pub(crate) async fn concerns(root: &Path, uid: &str) -> bool {
    let dir = pod_dir(root, uid);
    let records = tokio::task::spawn_blocking(move || record::of_pod(&dir)).await;
    let records = records.map(Result::unwrap_or_default).unwrap_or_default();
    records.iter().any(|(_, record)| record.attached_first)
}

async fn used(node: &Node) -> Result<BTreeSet<String>, String> {
    let root = node.config.root_dir.clone();
    let records = tokio::task::spawn_blocking(move || record::attached_first(&root)).await;
    let records = records.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let used = records
        .iter()
        .map(|record| unique_name(&record.driver_name, &record.volume_handle));
    Ok(used.collect())
}

/// Writes what is in use into the node's status, if it says otherwise; the status then.
pub(crate) async fn tell_use(node: &Node) -> Result<Option<NodeStatus>, String> {
    let nodes: Api<NodeObject> = Api::all(node.client.clone());
    let name = &node.config.node_name;
    // Whoever reads the records writes them out before the next one reads.
    let _one_at_a_time = node.drivers.telling().await;
    let used = used(node).await?;
    let failed = |error: kube::Error| format!("the volumes in use could not be told: {error}");
    let status = nodes.get(name).await.map_err(failed)?.status;
    let told = status.iter().flat_map(|status| status.volumes_in_use.iter().flatten());
    if told.cloned().collect::<BTreeSet<String>>() == used {
        return Ok(status);
    }
    let patch = Patch::Merge(json!({"status": {"volumesInUse": used}}));
    let written = nodes.patch_status(name, &PatchParams::default(), &patch).await;
    Ok(written.map_err(failed)?.status)
}
