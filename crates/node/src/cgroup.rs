//! The pods' own cgroups: runtimes make them as parents of the containers', but do not remove them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are mounted: each controller's hierarchy (v1), the unified one (v2), or both.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(fields
        .filter(|f| f.len() > 2 && matches!(f[2], "cgroup" | "cgroup2"))
        .map(|f| PathBuf::from(f[1]))
        .collect())
}

/// Removes the cgroups of a pod; those that are not empty stay.
pub(crate) fn remove_pod(root: &str, uid: &str) {
    let hierarchies = hierarchies().unwrap_or_default();
    for hierarchy in hierarchies {
        for class in ["", "burstable", "besteffort"] {
            let dir = hierarchy
                .join(root.trim_matches('/'))
                .join(class)
                .join(format!("pod{uid}"));
            remove_empty(&dir);
        }
    }
}

/// Removes all cgroups below a root, and the root, as far as they are empty.
pub(crate) fn remove_all(root: &str) {
    let name = root.trim_matches('/');
    if name.is_empty() {
        return;
    }
    for hierarchy in hierarchies().unwrap_or_default() {
        remove_empty(&hierarchy.join(name));
    }
}

/// A cgroup is removed by rmdir, which the kernel refuses while processes are in it; its files go with it.
fn remove_empty(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(%error, path = %dir.display(), "a cgroup stays");
    }
}
