//! Local volumes that their claims have left: the directory, the finalizer, the PersistentVolume.
//!
//! Only volumes that Steadfast made (`pv.kubernetes.io/provisioned-by: steadfast.io/local`), with policy Delete, in
//! phase Released, of this node, and only a directory that is named as the volume.

use crate::pods::Registry;
use crate::run::Node;
use crate::volumes::claims::{LOCAL_PROVISIONER, PROVISIONED_BY, is_reachable};
use crate::volumes::tree;
use api::k8s::api::core::v1::PersistentVolume;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Held by volumes whose directory must go first.
const FINALIZER: &str = "steadfast.io/local-volume";
/// Between two tries.
const RETRY: Duration = Duration::from_secs(5);

/// Reclaims volumes until shutdown.
pub(crate) async fn run(node: Arc<Node>, registry: Registry, shutdown: CancellationToken) {
    let api: Api<PersistentVolume> = Api::all(node.client.clone());
    let mut events = watcher::watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut failed: BTreeMap<String, PersistentVolume> = BTreeMap::new();
    loop {
        let retry = async {
            if failed.is_empty() {
                std::future::pending().await
            } else {
                tokio::time::sleep(RETRY).await
            }
        };
        let candidates = tokio::select! {
            () = shutdown.cancelled() => return,
            () = retry => std::mem::take(&mut failed).into_values().collect(),
            event = events.next() => match event {
                Some(Ok(Event::Apply(volume) | Event::InitApply(volume))) => vec![volume],
                Some(Ok(Event::Delete(volume))) => {
                    failed.remove(&volume.name_any());
                    Vec::new()
                }
                Some(Ok(_)) => Vec::new(),
                Some(Err(error)) => {
                    tracing::debug!(%error, "watching volumes failed, trying again");
                    Vec::new()
                }
                None => return,
            },
        };
        for volume in candidates {
            let Some(dir) = reclaimable(&volume, &node.labels) else {
                failed.remove(&volume.name_any());
                continue;
            };
            if registry.may_use(volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref())) {
                // A pod that was deleted by force is still ending.
                failed.insert(volume.name_any(), volume);
                continue;
            }
            if let Err(why) = reclaim(&api, &volume, dir).await {
                tracing::warn!(
                    why,
                    volume = volume.name_any(),
                    "a released volume could not be reclaimed, trying again"
                );
                failed.insert(volume.name_any(), volume);
            }
        }
    }
}

/// The directory of a volume that is to be reclaimed here.
fn reclaimable(volume: &PersistentVolume, node_labels: &BTreeMap<String, String>) -> Option<PathBuf> {
    let name = volume.metadata.name.as_deref()?;
    let spec = volume.spec.as_ref()?;
    let ours = volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(LOCAL_PROVISIONER);
    let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    let ours_is_done =
        volume.metadata.deletion_timestamp.is_some() && !volume.finalizers().iter().any(|f| f == FINALIZER);
    // Affinity is needed here: without it the volume is nobody's in particular.
    let here = spec.node_affinity.is_some() && is_reachable(volume, node_labels);
    let local = spec
        .host_path
        .as_ref()
        .map(|s| &s.path)
        .or(spec.local.as_ref().map(|s| &s.path))?;
    let dir = PathBuf::from(local);
    (ours && delete && phase == Some("Released") && !ours_is_done && here && is_named(&dir, name)).then_some(dir)
}

/// Whether a path is absolute, plain, below some directory, and its last element is the volume's name.
fn is_named(dir: &Path, name: &str) -> bool {
    let plain = dir.components().skip(1).all(|c| matches!(c, Component::Normal(_)));
    let depth = dir.components().count();
    dir.is_absolute() && plain && depth >= 3 && !name.is_empty() && dir.file_name().is_some_and(|last| last == name)
}

async fn reclaim(api: &Api<PersistentVolume>, seen: &PersistentVolume, dir: PathBuf) -> Result<(), String> {
    let name = seen.name_any();
    // The watch may be behind: nothing is removed on old news.
    let Some(volume) = api.get_opt(&name).await.map_err(|e| e.to_string())? else {
        return Ok(());
    };
    let still = volume.metadata.uid == seen.metadata.uid
        && volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
    if !still {
        return Ok(());
    }
    let shown = dir.display().to_string();
    let removed = tokio::task::spawn_blocking(move || remove_dir(&dir)).await;
    removed
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("cannot remove {shown}: {e}"))?;
    tracing::info!(volume = name, path = shown, "removed a released local volume");
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: volume.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    gone_is_fine(api.delete(&name, &params).await.map(drop))?;
    let left: Vec<&String> = volume.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    if left.len() < volume.finalizers().len() {
        let patch = json!({"metadata": {"uid": volume.metadata.uid, "finalizers": left}});
        gone_is_fine(
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map(drop),
        )?;
    }
    Ok(())
}

/// Removes the directory itself; if the path is a link, only the link would be meant, and that is refused.
fn remove_dir(dir: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => tree::remove(dir),
        Ok(_) => Err(std::io::Error::other("it is not a directory")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), String> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other.map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_named_as_the_volume() {
        let check = |dir: &str, expected: bool| assert_eq!(is_named(Path::new(dir), "pvc-1"), expected, "{dir}");
        check("/var/lib/steadfast/volumes/pvc-1", true);
        check("/volumes/pvc-1", true);
        check("/pvc-1", false);
        check("/var/lib/steadfast/volumes", false);
        check("/var/lib/../pvc-1", false);
        check("volumes/pvc-1", false);
        check("/var/lib/pvc-1/..", false);
    }

    #[test]
    fn only_our_released_volumes_of_this_node() {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "here".to_owned())]);
        let volume = |by: &str, phase: &str, policy: &str, node: &str| -> PersistentVolume {
            let terms =
                json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
            serde_json::from_value(json!({
                "metadata": {"name": "pvc-1", "annotations": {PROVISIONED_BY: by}},
                "spec": {
                    "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/data/pvc-1"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
                },
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let check =
            |by: &str, phase: &str, policy: &str, node: &str| reclaimable(&volume(by, phase, policy, node), &labels);
        assert_eq!(
            check(LOCAL_PROVISIONER, "Released", "Delete", "here"),
            Some(PathBuf::from("/data/pvc-1"))
        );
        assert_eq!(check("other", "Released", "Delete", "here"), None);
        assert_eq!(check(LOCAL_PROVISIONER, "Bound", "Delete", "here"), None);
        assert_eq!(check(LOCAL_PROVISIONER, "Released", "Retain", "here"), None);
        assert_eq!(check(LOCAL_PROVISIONER, "Released", "Delete", "there"), None);
    }
}
