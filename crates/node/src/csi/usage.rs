//! How full the volumes of drivers are, as the drivers tell.

use super::Drivers;
use super::record::{self, Record};
use csi::v1;
use csi::v1::volume_usage::Unit;
use std::path::Path;
use std::time::Duration;

/// A driver that takes longer is not waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A volume and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Its name in the pod.
    pub(crate) name: String,
    /// Its claim's name, if it has one.
    pub(crate) claim: Option<String>,
    /// Bytes: in all, free, used.
    pub(crate) bytes: [u64; 3],
    /// Inodes: in all, free, used.
    pub(crate) inodes: [u64; 3],
}

/// The volumes of a pod whose drivers tell.
pub(crate) async fn of_pod(drivers: &Drivers, pod_dir: &Path) -> Vec<Usage> {
    let dir = pod_dir.to_path_buf();
    let records = tokio::task::spawn_blocking(move || record::of_pod(&dir)).await;
    let mut all = Vec::new();
    for (_, record) in records.ok().and_then(Result::ok).into_iter().flatten() {
        all.extend(of_volume(drivers, &record).await);
    }
    all
}

async fn of_volume(drivers: &Drivers, record: &Record) -> Option<Usage> {
    let driver = drivers.all().into_iter().find(|d| d.name == record.driver_name)?;
    let driver = Some(driver).filter(|driver| driver.tells_stats)?;
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let request = v1::NodeGetVolumeStatsRequest {
        volume_id: record.volume_handle.clone(),
        volume_path: shown(&record.target_path),
        staging_target_path: record.staging_path.as_deref().map(shown).unwrap_or_default(),
    };
    let request = csi::timed(request, TIMEOUT);
    let told = driver.node().node_get_volume_stats(request).await.ok()?.into_inner();
    let mut usage = Usage {
        name: record.pod_volume.clone(),
        claim: record.claim.clone(),
        ..Usage::default()
    };
    for one in told.usage {
        let amounts = [one.total, one.available, one.used].map(|n| u64::try_from(n).unwrap_or(0));
        match one.unit() {
            Unit::Bytes => usage.bytes = amounts,
            Unit::Inodes => usage.inodes = amounts,
            Unit::Unknown => {}
        }
    }
    Some(usage)
}
