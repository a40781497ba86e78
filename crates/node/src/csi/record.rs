//! What is written down of a volume that a driver was asked to mount for a pod, as kubelets do.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// Whether another pod of this agent has a record of the same volume.
pub(crate) fn is_shared(root: &Path, own: &Path, record: &Record) -> io::Result<bool> {
    for pod in fs::read_dir(root.join("pods"))? {
        let others = of_pod(&pod?.path())?;
        if others.iter().any(|(dir, other)| dir != own && other.is_of(record)) {
            return Ok(true);
        }
    }
    Ok(false)
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
        };
        record("h").write(&place("a", "v")).unwrap();
        record("other").write(&place("b", "v")).unwrap();
        let shared = || is_shared(root.path(), &place("a", "v"), &record("h")).unwrap();
        assert!(!shared());
        record("h").write(&place("b", "w")).unwrap();
        assert!(shared());
        let of_b = of_pod(&root.path().join("pods/b")).unwrap();
        assert_eq!(of_b.len(), 2);
        assert!(of_pod(&root.path().join("pods/none")).unwrap().is_empty());
    }
}
