//! Removes images that nothing uses when their disk gets full.

use crate::events::Severity;
use crate::run::Node;
use crate::runtime::timed;
use api::k8s::api::core::v1::Node as NodeObject;
use cri::v1;
use jiff::Timestamp;
use node_plan::ImageUse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks, as kubelets do.
const PERIOD: Duration = Duration::from_secs(300);
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// When images were first seen and last used.
type Known = BTreeMap<String, (Timestamp, Option<Timestamp>)>;

/// Looks every now and then until shutdown.
pub(crate) async fn run(node: Arc<Node>, object: NodeObject, shutdown: CancellationToken) {
    let mut known = Known::new();
    loop {
        match collect(&node, &mut known).await {
            Ok(None) => {}
            Ok(Some(why)) => {
                tracing::warn!(why, "images");
                node.recorder
                    .node(&object, Severity::Warning, "FreeDiskSpaceFailed", why);
            }
            Err(error) => tracing::debug!(%error, "the runtime does not tell of its images"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Removes what there is too much of; why that was not enough.
async fn collect(node: &Node, known: &mut Known) -> Result<Option<String>, tonic::Status> {
    let now = Timestamp::now();
    let images = look(node, known, now).await?;
    let mut service = node.runtime.images.clone();
    let info = service
        .image_fs_info(timed(v1::ImageFsInfoRequest {}, CALL_TIMEOUT))
        .await?;
    let place = info.into_inner().image_filesystems.into_iter().find_map(|f| f.fs_id);
    let Some(place) = place.map(|id| id.mountpoint) else {
        return Ok(None);
    };
    let Some((used, capacity)) = disk_of(Path::new(&place)) else {
        return Ok(None);
    };
    let Some((superfluous, to_free)) = node_plan::superfluous_images(&images, used, capacity, now) else {
        return Ok(None);
    };
    let mut freed: u64 = 0;
    for image in superfluous {
        let request = v1::RemoveImageRequest {
            image: Some(v1::ImageSpec {
                image: image.id.clone(),
                ..v1::ImageSpec::default()
            }),
        };
        match service.remove_image(timed(request, CALL_TIMEOUT)).await {
            Ok(_) => {
                tracing::info!(image = image.id, bytes = image.size_bytes, "removed an unused image");
                freed = freed.saturating_add(image.size_bytes);
            }
            Err(error) => tracing::warn!(%error, image = image.id, "an unused image could not be removed"),
        }
    }
    Ok((freed < to_free).then(|| {
        format!("Failed to garbage collect required amount of images. Attempted to free {to_free} bytes, but only found {freed} bytes eligible to free.")
    }))
}

/// Bytes used and usable of the disk that a path is on. What is kept back for root is neither.
fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let used = bytes(stat.blocks().saturating_sub(stat.blocks_free()));
    Some((used, used.saturating_add(bytes(stat.blocks_available()))))
}

/// The images that are there, and whether anything uses them.
async fn look(node: &Node, known: &mut Known, now: Timestamp) -> Result<Vec<ImageUse>, tonic::Status> {
    let mut containers = node.runtime.containers.clone();
    // Of everybody, not only ours: the runtime may serve others.
    let listed = containers
        .list_containers(timed(v1::ListContainersRequest::default(), CALL_TIMEOUT))
        .await?
        .into_inner()
        .containers;
    let mut used: BTreeSet<String> = BTreeSet::new();
    for container in listed {
        used.extend([container.image_id, container.image_ref]);
        used.extend(container.image.map(|image| image.image));
    }
    let mut service = node.runtime.images.clone();
    let list = service
        .list_images(timed(v1::ListImagesRequest::default(), CALL_TIMEOUT))
        .await?;
    let images = list.into_inner().images;
    known.retain(|id, _| images.iter().any(|image| image.id == *id));
    let one = |image: v1::Image| {
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        let is_used = used.contains(&image.id) || names.into_iter().any(|name| used.contains(name));
        let (first_seen, last_used) = known.entry(image.id.clone()).or_insert((now, None));
        if is_used {
            *last_used = Some(now);
        }
        ImageUse {
            id: image.id,
            size_bytes: image.size,
            first_seen: *first_seen,
            last_used: *last_used,
            // What came from an archive has no digest in a registry, and nobody could bring it back.
            is_pinned: is_used || image.pinned || image.repo_digests.is_empty(),
        }
    };
    Ok(images.into_iter().map(one).collect())
}
