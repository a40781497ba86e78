//! A pod's volumes on this machine: made ready before its containers, kept up to date, and taken away after them.
//!
//! Below the agent's root: `pods/<uid>/volumes/<type>/<name>`, `pods/<uid>/volume-subpaths/<name>/<container>/<n>`,
//! `pods/<uid>/etc-hosts`, `pods/<uid>/containers/<container>/<restart>` (termination messages).

pub(crate) mod atomic;
pub(crate) mod claims;
pub(crate) mod host_path;
pub(crate) mod mounts;
pub(crate) mod ownership;
pub(crate) mod sub_path;
pub(crate) mod tree;
pub(crate) mod usage;

use crate::csi::attachment::Obstacle;
use crate::csi::mount::{self, Mount};
use crate::csi::source::Source;
use crate::csi::{Drivers, expand};
use crate::run::Node;
use api::k8s::api::core::v1::{Pod, Volume};
use node_plan::{Sources, quantity_rounded_up, volume_payload};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::time::{Duration, Instant};

/// A volume is waited for this long to be attached before the pod is looked at again.
const ATTACHED_TIMEOUT: Duration = Duration::from_secs(2);

/// How soon, and after a while how rarely, is looked whether it is.
const ATTACHED_PAUSE: Duration = Duration::from_millis(25);
const ATTACHED_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where each volume of a pod is, by name.
pub(crate) type Mounted = BTreeMap<String, PathBuf>;

/// Why a volume is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VolumeError {
    /// Its claim cannot be used yet.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: {why}"
    )]
    Claim {
        /// The volume's name in the pod.
        volume: String,
        /// What it waits for.
        why: String,
    },
    /// What it is made from is not known.
    #[error("MountVolume.SetUp failed: {why}")]
    Sources {
        /// What failed.
        why: String,
    },
    /// It is not attached to the node yet.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[]: context deadline exceeded"
    )]
    NotAttached {
        /// The volume's name in the pod.
        volume: String,
        /// It has been waited for so long that people should know.
        is_news: bool,
    },
    /// It cannot be set up.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
    SetUp {
        /// The volume's name in the pod (of a claim: of the PersistentVolume).
        volume: String,
        /// What failed.
        why: String,
    },
}

/// The directory of all that belongs to a pod.
pub(crate) fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// A pod's volumes, ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Where they are.
    pub(crate) mounted: Mounted,
    /// Something is to be tried again that nobody waits for.
    pub(crate) is_incomplete: bool,
}

/// Makes all volumes of a pod ready. Doing it again is fine and brings files up to date.
pub(crate) async fn prepare(node: &Node, pod: &Pod, sources: &Sources) -> Result<Prepared, VolumeError> {
    let mut prepared = Prepared {
        mounted: Mounted::new(),
        is_incomplete: false,
    };
    let dir = pod_dir(&node.config.root_dir, pod.metadata.uid.as_deref().unwrap_or_default());
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let path = match claims::claim_name(pod, volume) {
            Some(claim) => {
                let claimed = set_up_claim(node, pod, volume, &claim).await?;
                prepared.is_incomplete |= !claimed.has_grown;
                claimed.path
            }
            None => match Source::of_pod(pod, volume) {
                Some(source) => mount_csi(node, pod, &source).await?.path,
                None => {
                    let (dir, pod, one, sources) = (dir.clone(), pod.clone(), volume.clone(), sources.clone());
                    blocking(&volume.name, move || set_up(&dir, &pod, &one, &sources)).await?
                }
            },
        };
        prepared.mounted.insert(volume.name.clone(), path);
    }
    Ok(prepared)
}

/// The volume of a claim, ready.
struct Claimed {
    path: PathBuf,
    /// Whether it is as large as it should be.
    has_grown: bool,
}

/// Makes the volume of a claim ready.
async fn set_up_claim(node: &Node, pod: &Pod, volume: &Volume, claim: &str) -> Result<Claimed, VolumeError> {
    let unusable = |why| VolumeError::Claim {
        volume: volume.name.clone(),
        why,
    };
    let bound = claims::bound(&node.objects, pod, volume, claim)
        .await
        .map_err(unusable)?;
    let source = Source::of_persistent(&bound.volume, volume);
    let mut labels = node.labels.clone();
    if let Some(source) = &source {
        // Its driver knows where this node is.
        node.drivers.find(&source.driver).await.map_err(unusable)?;
        labels.extend(node.drivers.topology());
    }
    claims::check(&bound.volume, &bound.claim, &labels).map_err(unusable)?;
    let Some(source) = source else {
        let place = claims::place_of(&bound.volume).map_err(unusable)?;
        let group = fs_group(pod);
        let path = blocking(&place.volume.clone(), move || set_up_place(&place, group)).await?;
        return Ok(Claimed { path, has_grown: true });
    };
    let mount = mount_csi(node, pod, &source).await?;
    let mut has_grown = true;
    if let Some(size) = expand::due(&bound.volume, &bound.claim)
        && let Err(why) = expand::expand(node, pod, &source, &mount, &bound.claim, size).await
    {
        tracing::warn!(why, volume = source.name, "a volume has not grown, trying again");
        has_grown = false;
    }
    let path = mount.path;
    Ok(Claimed { path, has_grown })
}

async fn mount_csi(node: &Node, pod: &Pod, source: &Source) -> Result<Mount, VolumeError> {
    let end = Instant::now() + ATTACHED_TIMEOUT;
    let mut pause = ATTACHED_PAUSE;
    loop {
        match mount::mount(node, pod, source, fs_group(pod)).await {
            Ok(mount) => return Ok(mount),
            Err(Obstacle::NotAttached { is_news: false }) if Instant::now() < end => {}
            Err(Obstacle::NotAttached { is_news }) => {
                return Err(VolumeError::NotAttached {
                    volume: source.pod_volume.clone(),
                    is_news,
                });
            }
            Err(Obstacle::Failed(why)) => {
                return Err(VolumeError::SetUp {
                    volume: source.name.clone(),
                    why,
                });
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ATTACHED_PAUSE_MAX);
    }
}

/// File work away from the tasks that answer; `volume` is named in errors.
async fn blocking(
    volume: &str,
    work: impl FnOnce() -> Result<PathBuf, String> + Send + 'static,
) -> Result<PathBuf, VolumeError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    done.map_err(|why| VolumeError::SetUp {
        volume: volume.to_owned(),
        why,
    })
}

/// The pod's group for volumes, and whether a right root is enough.
fn fs_group(pod: &Pod) -> Option<(u32, bool)> {
    let security = pod.spec.as_ref()?.security_context.as_ref()?;
    let group = u32::try_from(security.fs_group?).ok()?;
    Some((
        group,
        security.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
    ))
}

fn set_up_place(place: &claims::Place, group: Option<(u32, bool)>) -> Result<PathBuf, String> {
    host_path::ensure(&place.path, &place.type_)?;
    if let (true, Some((gid, on_mismatch))) = (place.takes_group, group) {
        ownership::give_to_group(&place.path, gid, on_mismatch)
            .map_err(|e| format!("cannot give {} to group {gid}: {e}", place.path.display()))?;
    }
    Ok(place.path.clone())
}

fn set_up(pod_dir: &Path, pod: &Pod, volume: &Volume, sources: &Sources) -> Result<PathBuf, String> {
    if let Some(source) = &volume.host_path {
        let path = PathBuf::from(&source.path);
        return host_path::ensure(&path, source.type_.as_deref().unwrap_or_default()).map(|()| path);
    }
    let dir = own_place(pod_dir, volume).ok_or("volumes of this type are not supported by this node")?;
    let io = |what: &str| {
        let (what, shown) = (what.to_owned(), dir.display().to_string());
        move |error: std::io::Error| format!("cannot {what} {shown}: {error}")
    };
    if let Some(source) = &volume.empty_dir {
        let is_new = !dir.exists();
        fs::create_dir_all(&dir).map_err(io("make"))?;
        if source.medium.as_deref() == Some("Memory") {
            let size = source
                .size_limit
                .as_ref()
                .and_then(|q| quantity_rounded_up(q, 1_000_000_000));
            let size = size.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
            mounts::mount_tmpfs(&dir, size).map_err(io("mount a tmpfs at"))?;
        }
        if is_new {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).map_err(io("open"))?;
        }
        if let Some((gid, on_mismatch)) = fs_group(pod) {
            ownership::give_to_group(&dir, gid, on_mismatch).map_err(io("give to the pod's group"))?;
        }
        return Ok(dir);
    }
    let files = volume_payload(pod, volume, sources)
        .map_err(|e| e.to_string())?
        .unwrap_or_default();
    fs::create_dir_all(&dir).map_err(io("make"))?;
    if volume.secret.is_some() || volume.projected.is_some() {
        // Secrets never reach the disk.
        mounts::mount_tmpfs(&dir, None).map_err(io("mount a tmpfs at"))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(io("open"))?;
    }
    atomic::write(&dir, &files, fs_group(pod).map(|(gid, _)| gid)).map_err(io("write"))?;
    Ok(dir)
}

/// Where a volume is that is made for the pod alone.
pub(crate) fn own_place(pod_dir: &Path, volume: &Volume) -> Option<PathBuf> {
    Some(pod_dir.join("volumes").join(plugin(volume)?).join(&volume.name))
}

/// The directory name of a volume type, as kubelets have it.
fn plugin(volume: &Volume) -> Option<&'static str> {
    let plugins = [
        (volume.empty_dir.is_some(), "kubernetes.io~empty-dir"),
        (volume.config_map.is_some(), "kubernetes.io~configmap"),
        (volume.secret.is_some(), "kubernetes.io~secret"),
        (volume.downward_api.is_some(), "kubernetes.io~downward-api"),
        (volume.projected.is_some(), "kubernetes.io~projected"),
    ];
    plugins.into_iter().find(|(is, _)| *is).map(|(_, name)| name)
}

/// Unmounts everything of a pod and removes its directory. Without drivers, what they mounted is unmounted all the same,
/// but they do not learn of it.
pub(crate) async fn take_away(root: &Path, drivers: Option<&Drivers>, uid: &str) -> Result<(), String> {
    let dir = pod_dir(root, uid);
    if let Some(drivers) = drivers.filter(|_| uid_is_safe(&dir)) {
        mount::take_back(root, drivers, &dir).await?;
    }
    let work = move || {
        if uid_is_safe(&dir) {
            mounts::unmount_below(&dir)
                .and_then(|()| tree::remove(&dir))
                .map_err(|e| e.to_string())
        } else {
            Err(format!("{} is not a pod's directory", dir.display()))
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}

/// A uid comes from outside; it must be one plain path element.
fn uid_is_safe(dir: &Path) -> bool {
    let inside = dir.file_name().is_some_and(|name| !name.is_empty());
    inside
        && dir
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|name| name == "pods")
}
