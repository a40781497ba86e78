//! Volumes of drivers, mounted for pods and taken back: staged once per node, published once per pod.

use super::attachment::{Obstacle, attached};
use super::record::{self, PLUGIN, Record};
use super::request::{Group, Manner, capability, lifecycle};
use super::source::{Source, hex};
use super::{Driver, Drivers};
use crate::run::Node;
use crate::volumes::{mounts, ownership, pod_dir, tree};
use api::k8s::api::core::v1::{Pod, Secret, SecretReference};
use api::k8s::api::storage::v1::CSIDriver;
use csi::v1;
use futures::future::join_all;
use kube::Api;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Code;

/// What drivers do may take long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A volume that is mounted for a pod.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) path: PathBuf,
    /// Where it is staged.
    pub(crate) staging: Option<PathBuf>,
}

/// Mounts a volume for a pod. What is mounted already stays as it is.
pub(crate) async fn mount(
    node: &Node,
    pod: &Pod,
    source: &Source,
    group: Option<(u32, bool)>,
) -> Result<Mount, Obstacle> {
    let driver = node.drivers.find(&source.driver).await?;
    let objects: Api<CSIDriver> = Api::all(node.client.clone());
    let object = objects.get_opt(&source.driver).await;
    let object = object.map_err(|e| format!("error getting CSIDriver {}: {e}", source.driver))?;
    let manner = Manner::of(object.as_ref());
    manner.check_life(source)?;
    let root = &node.config.root_dir;
    let dir = pod_dir(root, pod.metadata.uid.as_deref().unwrap_or_default())
        .join("volumes")
        .join(PLUGIN)
        .join(&source.name);
    let mut record = record_of(root, &driver, source, &dir);
    record.attached_first = manner.attaches && !source.is_ephemeral;
    let mount = Mount {
        path: record.target_path.clone(),
        staging: record.staging_path.clone(),
    };
    let lock = node.drivers.lock(&source.driver, &source.handle);
    let _one_at_a_time = lock.lock().await;
    if is_whole(&dir, &record.target_path).await? && !manner.republishes {
        return Ok(mount);
    }
    let publish_context = if record.attached_first {
        attached(node, source, &record, &dir).await?
    } else {
        HashMap::new()
    };
    // Written first, so that whatever comes of it is taken back.
    let written = record.clone();
    on_files(&dir, move |dir| written.write(dir)).await?;
    let giver = manner.group(&driver, source, group.map(|(gid, _)| gid));
    let context = manner.context(source, pod);
    let call = Call {
        node,
        driver: &driver,
        source,
        capability: capability(&driver, source, giver),
        publish_context,
    };
    if let Some(staging) = &record.staging_path {
        call.stage(staging).await?;
    }
    call.publish(&record, context).await?;
    if let (Group::Agent(gid), Some((_, on_mismatch))) = (giver, group) {
        let give = move |path: &Path| ownership::give_to_group(path, gid, on_mismatch);
        on_files(&record.target_path, give).await?;
    }
    let record = Record {
        is_whole: true,
        ..record
    };
    on_files(&dir, move |dir| record.write(dir)).await?;
    Ok(mount)
}

/// Whether all was done that a mount takes. A mount alone does not say so: the agent may have ended between it and what
/// comes after, and drivers take a second call for what it is.
async fn is_whole(dir: &Path, target: &Path) -> Result<bool, String> {
    let was_whole = on_files(dir, Record::read).await?.is_some_and(|record| record.is_whole);
    Ok(was_whole && on_files(target, mounts::is_mount_point).await?)
}

/// Where volumes of all drivers are staged.
pub(crate) fn staging_root(root: &Path) -> PathBuf {
    root.join("plugins/kubernetes.io/csi")
}

fn record_of(root: &Path, driver: &Driver, source: &Source, dir: &Path) -> Record {
    let staging = staging_root(root)
        .join(&source.driver)
        .join(hex(&source.handle))
        .join("globalmount");
    Record {
        driver_name: source.driver.clone(),
        volume_handle: source.handle.clone(),
        volume_lifecycle_mode: lifecycle(source).to_owned(),
        pod_volume: source.pod_volume.clone(),
        claim: source.claim.clone(),
        staging_path: (driver.stages && !source.is_ephemeral).then_some(staging),
        target_path: dir.join(if source.is_block { "device" } else { "mount" }),
        is_whole: false,
        attached_first: false,
        waits: false,
    }
}

/// What the calls of one volume have in common.
struct Call<'a> {
    node: &'a Node,
    driver: &'a Driver,
    source: &'a Source,
    capability: v1::VolumeCapability,
    publish_context: HashMap<String, String>,
}

impl Call<'_> {
    async fn stage(&self, staging: &Path) -> Result<(), String> {
        on_files(staging, |staging| std::fs::create_dir_all(staging)).await?;
        let request = v1::NodeStageVolumeRequest {
            volume_id: self.source.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: shown(staging),
            volume_capability: Some(self.capability.clone()),
            secrets: secrets(self.node, self.source.secrets.stage.as_ref()).await?,
            volume_context: self.source.attributes.clone(),
        };
        let staged = self.driver.node().node_stage_volume(csi::timed(request, TIMEOUT)).await;
        staged.map(drop).map_err(|status| told("MountDevice", &status))
    }

    async fn publish(&self, record: &Record, volume_context: HashMap<String, String>) -> Result<(), String> {
        let request = v1::NodePublishVolumeRequest {
            volume_id: self.source.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: record.staging_path.as_deref().map(shown).unwrap_or_default(),
            target_path: shown(&record.target_path),
            volume_capability: Some(self.capability.clone()),
            readonly: self.source.read_only,
            secrets: secrets(self.node, self.source.secrets.publish.as_ref()).await?,
            volume_context,
        };
        let published = self
            .driver
            .node()
            .node_publish_volume(csi::timed(request, TIMEOUT))
            .await;
        published.map(drop).map_err(|status| told("SetUp", &status))
    }
}

/// The content of a secret that a call is made with.
pub(crate) async fn secrets(node: &Node, named: Option<&SecretReference>) -> Result<HashMap<String, String>, String> {
    let Some(named) = named else { return Ok(HashMap::new()) };
    let (namespace, name) = (
        named.namespace.as_deref().unwrap_or_default(),
        named.name.as_deref().unwrap_or_default(),
    );
    let api: Api<Secret> = Api::namespaced(node.client.clone(), namespace);
    let secret = api.get(name).await;
    let secret = secret.map_err(|e| format!("failed to find the secret {name} in the namespace {namespace}: {e}"))?;
    let data = secret.data.unwrap_or_default().into_iter();
    Ok(data
        .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
        .collect())
}

/// Takes back all volumes that drivers mounted for a pod.
///
/// # Errors
/// A driver is not there or refuses; what was taken back stays so, and no driver keeps others from being asked.
pub(crate) async fn take_back(root: &Path, drivers: &Drivers, pod_dir: &Path) -> Result<(), String> {
    let records = on_files(pod_dir, record::of_pod).await?;
    let all = records
        .iter()
        .map(|(dir, record)| take_one_back(root, drivers, dir, record));
    let failed: Vec<String> = join_all(all).await.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

async fn take_one_back(root: &Path, drivers: &Drivers, dir: &Path, record: &Record) -> Result<(), String> {
    let lock = drivers.lock(&record.driver_name, &record.volume_handle);
    if record.waits {
        let _one_at_a_time = lock.lock().await;
        return on_files(dir, tree::remove).await;
    }
    let driver = drivers.find(&record.driver_name).await?;
    let _one_at_a_time = lock.lock().await;
    let request = v1::NodeUnpublishVolumeRequest {
        volume_id: record.volume_handle.clone(),
        target_path: shown(&record.target_path),
    };
    let done = driver.node().node_unpublish_volume(csi::timed(request, TIMEOUT)).await;
    gone_is_fine(done.map(drop)).map_err(|status| told("TearDown", &status))?;
    // Drivers should have removed it; what is still mounted there is found by whoever removes the directory.
    on_files(&record.target_path, remove_empty).await?;
    if let Some(staging) = &record.staging_path {
        let (root, own, this) = (root.to_path_buf(), dir.to_path_buf(), record.clone());
        let is_shared = on_files(&root.clone(), move |_| record::is_shared(&root, &own, &this)).await?;
        if !is_shared {
            unstage(&driver, record, staging).await?;
        }
    }
    on_files(dir, tree::remove).await
}

async fn unstage(driver: &Driver, record: &Record, staging: &Path) -> Result<(), String> {
    let request = v1::NodeUnstageVolumeRequest {
        volume_id: record.volume_handle.clone(),
        staging_target_path: shown(staging),
    };
    let done = driver.node().node_unstage_volume(csi::timed(request, TIMEOUT)).await;
    gone_is_fine(done.map(drop)).map_err(|status| told("UnmountDevice", &status))?;
    let volume = staging.parent().unwrap_or(staging).to_path_buf();
    on_files(&volume, tree::remove).await
}

/// What a driver does not know any more is not mounted by it.
fn gone_is_fine(done: Result<(), tonic::Status>) -> Result<(), tonic::Status> {
    match done {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        done => done,
    }
}

fn remove_empty(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn told(what: &str, status: &tonic::Status) -> String {
    format!("{what} failed: {}", csi::told(status))
}

/// Work on files away from the tasks that answer.
async fn on_files<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let path = path.to_path_buf();
    let done = tokio::task::spawn_blocking(move || work(&path).map_err(|e| format!("{}: {e}", path.display())));
    done.await.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mount_that_nobody_wrote_down_as_whole_is_done_again() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().canonicalize().unwrap().join("mount");
        std::fs::create_dir(&target).unwrap();
        let write = |is_whole| {
            let record = Record {
                driver_name: "d".into(),
                volume_handle: "h".into(),
                volume_lifecycle_mode: "Persistent".into(),
                pod_volume: "v".into(),
                claim: None,
                staging_path: None,
                target_path: target.clone(),
                is_whole,
                attached_first: false,
                waits: false,
            };
            record.write(dir.path()).unwrap();
        };
        let whole = || is_whole(dir.path(), &target);
        mounts::mount_tmpfs(&target, None).unwrap();
        let unwritten = whole().await.unwrap();
        write(false);
        let halfway = whole().await.unwrap();
        write(true);
        let done = whole().await.unwrap();
        mounts::unmount_below(&target).unwrap();
        let gone = whole().await.unwrap();
        assert_eq!((unwritten, halfway, done, gone), (false, false, true, false));
    }

    #[tokio::test]
    async fn a_driver_that_is_not_there_keeps_no_other_volume_from_being_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pods/u");
        let place = |name: &str| pod.join("volumes").join(PLUGIN).join(name);
        let record = |name: &str, waits: bool| Record {
            driver_name: "gone".into(),
            volume_handle: name.into(),
            volume_lifecycle_mode: "Persistent".into(),
            pod_volume: name.into(),
            claim: None,
            staging_path: None,
            target_path: place(name).join("mount"),
            is_whole: false,
            attached_first: true,
            waits,
        };
        record("a", false).write(&place("a")).unwrap();
        record("b", true).write(&place("b")).unwrap();
        let taken = take_back(root.path(), &Drivers::default(), &pod).await;
        assert!(taken.unwrap_err().contains("driver name gone not found"));
        assert!(place("a").exists() && !place("b").exists());
    }
}
