//! What is written down of a volume that a driver was asked to mount for a pod, as kubelets do.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The file's name.
const FILE: &str = "vol_data.json";
/// The directory of volumes of this type below a pod's `volumes`.
pub(crate) const PLUGIN: &str = "kubernetes.io~csi";

/// A volume that may be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The driver.
    pub(crate) driver_name: String,
    /// The volume's id.
    pub(crate) volume_handle: String,
    /// `Persistent` or `Ephemeral`.
    pub(crate) volume_lifecycle_mode: String,
    /// Its name in the pod.
    #[serde(default)]
    pub(crate) pod_volume: String,
    /// Its claim's name, if it has one.
    #[serde(default)]
    pub(crate) claim: Option<String>,
    /// Where it was staged, if it was.
    #[serde(default)]
    pub(crate) staging_path: Option<PathBuf>,
    /// Where it was published.
    pub(crate) target_path: PathBuf,
    /// Whether it is mounted and given to the pod's group.
    #[serde(default)]
    pub(crate) is_whole: bool,
    /// It is attached to the node first.
    #[serde(default)]
    pub(crate) attached_first: bool,
    /// It still waits for that: its driver was not asked for anything.
    #[serde(default)]
    pub(crate) waits: bool,
}

impl Record {
    /// Whether both are about the same volume.
    fn is_of(&self, other: &Self) -> bool {
        self.driver_name == other.driver_name && self.volume_handle == other.volume_handle
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let aside = dir.join(".vol_data.json");
        fs::write(&aside, serde_json::to_vec(self)?)?;
        fs::File::open(&aside)?.sync_all()?;
        fs::rename(&aside, dir.join(FILE))
    }

    /// The same of a volume that waits to be attached.
    pub(crate) fn waiting(&self) -> Self {
        Self {
            waits: true,
            ..self.clone()
        }
    }

    /// Writes it unless there is one already; for how long there has been one.
    pub(crate) fn write_waiting(&self, dir: &Path) -> io::Result<Duration> {
        if Self::read(dir)?.is_none() {
            self.write(dir)?;
        }
        let written = fs::metadata(dir.join(FILE))?.modified()?;
        Ok(written.elapsed().unwrap_or_default())
    }

    /// As if it had been written now.
    pub(crate) fn wait_anew(dir: &Path) -> io::Result<()> {
        fs::File::open(dir.join(FILE))?.set_modified(SystemTime::now())
    }

    /// Reads it, if there is one.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The records of a pod: each with its directory.
pub(crate) fn of_pod(pod_dir: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let entries = match fs::read_dir(pod_dir.join("volumes").join(PLUGIN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let dir = entry?.path();
        if let Some(record) = Record::read(&dir)? {
            records.push((dir, record));
        }
    }
    Ok(records)
}

/// Whether another pod of this agent has the same volume. One that waits for it has nothing of it.
pub(crate) fn is_shared(root: &Path, own: &Path, record: &Record) -> io::Result<bool> {
    let all = of_all(root)?;
    let mut others = all.iter().filter(|(dir, other)| dir != own && !other.waits);
    Ok(others.any(|(_, other)| other.is_of(record)))
}

/// The records of all volumes that are attached first, in use or about to be.
pub(crate) fn attached_first(root: &Path) -> io::Result<Vec<Record>> {
    let records = of_all(root)?.into_iter().map(|(_, record)| record);
    Ok(records.filter(|record| record.attached_first).collect())
}

fn of_all(root: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let pods = match fs::read_dir(root.join("pods")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        pods => pods?,
    };
    let mut records = Vec::new();
    for pod in pods {
        records.extend(of_pod(&pod?.path())?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_shared_while_another_pod_has_it() {
        let root = tempfile::tempdir().unwrap();
        let place = |uid: &str, name: &str| {
            root.path()
                .join("pods")
                .join(uid)
                .join("volumes")
                .join(PLUGIN)
                .join(name)
        };
        let record = |handle: &str| Record {
            driver_name: "d".into(),
            volume_handle: handle.into(),
            volume_lifecycle_mode: "Persistent".into(),
            pod_volume: "v".into(),
            claim: None,
            staging_path: Some("/s".into()),
            target_path: "/t".into(),
            is_whole: false,
            attached_first: handle == "other",
            waits: false,
        };
        record("h").write(&place("a", "v")).unwrap();
        record("other").write(&place("b", "v")).unwrap();
        let shared = || is_shared(root.path(), &place("a", "v"), &record("h")).unwrap();
        assert!(!shared());
        record("h").waiting().write_waiting(&place("b", "w")).unwrap();
        assert!(!shared());
        record("h").write(&place("b", "w")).unwrap();
        assert!(shared());
        fs::File::open(place("b", "w").join(FILE))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let waits = || record("h").waiting().write_waiting(&place("b", "w")).unwrap();
        assert!(waits() > Duration::from_secs(1_000_000));
        Record::wait_anew(&place("b", "w")).unwrap();
        assert!(waits() < Duration::from_secs(1_000_000));
        assert_eq!(attached_first(root.path()).unwrap(), [record("other")]);
        let of_b = of_pod(&root.path().join("pods/b")).unwrap();
        assert_eq!(of_b.len(), 2);
        assert!(of_pod(&root.path().join("pods/none")).unwrap().is_empty());
    }
}
