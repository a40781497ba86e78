//! The pods' own cgroups, parents of their containers': what a pod as a whole may use. Runtimes would make them, but
//! neither limit nor remove them.

use node_plan::ContainerResources;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where control groups are mounted: each controller's hierarchy (v1), the unified one (v2), or both.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    Ok(mounted(&fs::read_to_string("/proc/self/mounts")?, |_| true))
}

/// Those of cgroup v1 that have one of the controllers of [`Limits`].
fn limiting() -> io::Result<Vec<PathBuf>> {
    let has = |options: &str| options.split(',').any(|o| matches!(o, "cpu" | "memory" | "pids"));
    Ok(mounted(&fs::read_to_string("/proc/self/mounts")?, has))
}

fn mounted(mounts: &str, options: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|f| f.len() > 3 && matches!(f[2], "cgroup" | "cgroup2") && options(f[3]))
        .map(|f| PathBuf::from(f[1]))
        .collect()
}

/// What the processes of a pod may use together; 0 means "not limited".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// CPU and memory.
    pub(crate) resources: ContainerResources,
    /// Processes and threads.
    pub(crate) pids_max: u32,
}

/// Makes the cgroup of a pod, or changes its limits.
///
/// # Errors
/// It cannot be made, or a limit cannot be set.
pub(crate) fn make_pod(parent: &str, limits: &Limits) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // The unified hierarchy's controllers are not among its mount options; others are the runtime's matter.
    let unified = hierarchies()?
        .into_iter()
        .filter(|h| h.join("cgroup.controllers").exists());
    for hierarchy in limiting()?.into_iter().chain(unified) {
        let is_unified = hierarchy.join("cgroup.controllers").exists();
        let files = if is_unified { files_v2(limits) } else { files_v1(limits) };
        let dir = hierarchy.join(parent.trim_matches('/'));
        if is_unified && !delegate(&hierarchy, parent)? {
            continue;
        }
        fs::create_dir_all(&dir).map_err(|e| named(&dir, e))?;
        for (name, value) in files {
            let path = dir.join(name);
            match put(&path, &value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&path, error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes to a file that is there; what is not is another hierarchy's.
fn put(path: &Path, value: &str) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all(value.as_bytes())
}

/// The files of cgroup v1.
fn files_v1(limits: &Limits) -> Vec<(&'static str, String)> {
    let Limits { resources, pids_max } = limits;
    let or_none = |value: i64| if value > 0 { value } else { -1 };
    vec![
        ("cpu.shares", resources.cpu_shares.max(2).to_string()),
        ("cpu.cfs_quota_us", or_none(resources.cpu_quota).to_string()),
        ("memory.limit_in_bytes", or_none(resources.memory_bytes).to_string()),
        ("pids.max", pids(*pids_max)),
    ]
}

fn files_v2(limits: &Limits) -> Vec<(&'static str, String)> {
    let Limits { resources, pids_max } = limits;
    let or_max = |value: i64| if value > 0 { value.to_string() } else { "max".to_owned() };
    // As the OCI's runtimes map shares to weights.
    let weight = 1 + ((resources.cpu_shares.max(2) - 2) * 9_999) / 262_142;
    vec![
        ("cpu.weight", weight.to_string()),
        (
            "cpu.max",
            format!("{} {}", or_max(resources.cpu_quota), resources.cpu_period.max(100_000)),
        ),
        ("memory.max", or_max(resources.memory_bytes)),
        ("pids.max", pids(*pids_max)),
    ]
}

fn pids(max: u32) -> String {
    if max > 0 { max.to_string() } else { "max".to_owned() }
}

/// cgroup v2: controllers reach a cgroup only if all above it pass them on. Whether there are any.
fn delegate(hierarchy: &Path, parent: &str) -> io::Result<bool> {
    let available = fs::read_to_string(hierarchy.join("cgroup.controllers"))?;
    let wanted = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|c| available.split_whitespace().any(|a| a == *c));
    let text: Vec<String> = wanted.map(|c| format!("+{c}")).collect();
    if text.is_empty() {
        return Ok(false);
    }
    let mut dir = hierarchy.to_owned();
    for element in parent.trim_matches('/').split('/') {
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("cgroup.subtree_control"), text.join(" "))?;
        dir.push(element);
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_cgroup_is_limited_and_removed() {
        let root = format!("/steadfast-test-{}", std::process::id());
        let limits = Limits {
            resources: ContainerResources {
                cpu_shares: 512,
                cpu_quota: 50_000,
                cpu_period: 100_000,
                memory_bytes: 64 << 20,
                oom_score_adj: 0,
            },
            pids_max: 99,
        };
        make_pod(&format!("{root}/burstable/podu1"), &limits).expect("made");
        let read = |names: [&str; 2]| {
            let files = hierarchies().expect("mounts").into_iter();
            let mut files =
                files.flat_map(|h| names.map(|name| h.join(root.trim_matches('/')).join("burstable/podu1").join(name)));
            files
                .find_map(|file| fs::read_to_string(file).ok())
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        assert_eq!(read(["pids.max", "pids.max"]), "99");
        assert_eq!(read(["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
        assert!(read(["cpu.cfs_quota_us", "cpu.max"]).starts_with("50000"));
        make_pod(&format!("{root}/burstable/podu1"), &Limits::default()).expect("changed");
        assert_eq!(read(["pids.max", "pids.max"]), "max");
        remove_pod(&root, "u1");
        assert_eq!(read(["pids.max", "pids.max"]), "");
        remove_all(&root);
        let left = hierarchies()
            .expect("mounts")
            .into_iter()
            .any(|h| h.join(root.trim_matches('/')).exists());
        assert!(!left, "{root} is left");
    }
}
