//! The cgroup of a container, on v1, hybrid and v2: reading what it uses, changing its limits, ending it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::LinuxContainerResources;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROOT: &str = "/sys/fs/cgroup";

/// Looks at a cgroup without `cgroup.kill` until it is empty. Processes may be stuck in the kernel for longer.
const KILL_ROUNDS_MAX: usize = 100;

/// A path below the root of every hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    path: String,
    unified: bool,
}

/// What the processes of a cgroup use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_nanos: u64,
    pub(crate) memory_bytes: u64,
    /// Without what can be dropped at once.
    pub(crate) working_set_bytes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    /// The limit, if there is one.
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// Whether this machine has only cgroup v2.
pub(crate) fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

impl Cgroup {
    pub(crate) fn new(path: &str) -> Self {
        Self {
            path: path.trim_matches('/').to_owned(),
            unified: is_unified(),
        }
    }

    /// The path as the OCI configuration wants it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.path)
    }

    fn folder(&self, controller: &str) -> PathBuf {
        let root = Path::new(ROOT);
        if self.unified {
            root.join(&self.path)
        } else {
            root.join(controller).join(&self.path)
        }
    }

    /// Its folder in each hierarchy.
    fn folders(&self) -> Vec<PathBuf> {
        if self.unified {
            return vec![self.folder("")];
        }
        let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten();
        // Some are links to others.
        let hierarchies = hierarchies.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        hierarchies.map(|entry| entry.path().join(&self.path)).collect()
    }

    /// Files that count processes killed for want of memory.
    pub(crate) fn oom_files(&self) -> Vec<PathBuf> {
        let name = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        vec![self.folder("memory").join(name)]
    }

    /// Every process in it, those in cgroups below it too.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut processes = Vec::new();
        for folder in self.folders() {
            collect(&folder, &mut processes);
        }
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    /// Sends SIGKILL to all of them.
    pub(crate) fn kill(&self) {
        if self.unified && fs::write(self.folder("").join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // Those that fork without end are ahead of one look, but not of many.
        for _ in 0..KILL_ROUNDS_MAX {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for pid in processes {
                // Ended meanwhile is what we want.
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
            }
            std::thread::yield_now();
        }
    }

    /// Removes it and what is below, as far as it is empty of processes.
    pub(crate) fn remove(&self) {
        for folder in self.folders() {
            remove_tree(&folder);
        }
    }

    /// Removes it if nothing is in it, neither processes nor cgroups.
    pub(crate) fn remove_if_empty(&self) {
        for folder in self.folders() {
            // Busy or gone: both are fine, and somebody else may have made it.
            fs::remove_dir(folder).unwrap_or_default();
        }
    }

    /// What it uses now; nothing if it does not exist.
    pub(crate) fn usage(&self) -> Option<Usage> {
        if self.unified { self.usage_v2() } else { self.usage_v1() }
    }

    fn usage_v1(&self) -> Option<Usage> {
        let memory = self.folder("memory");
        let stat = read_map(&memory.join("memory.stat"))?;
        let used = read_number(&memory.join("memory.usage_in_bytes"))?;
        let value = |key: &str| stat.get(key).copied().unwrap_or(0);
        // "No limit" is a number near the largest.
        let limit = read_number(&memory.join("memory.limit_in_bytes")).filter(|limit| *limit < u64::MAX / 4);
        Some(Usage {
            cpu_nanos: read_number(&self.folder("cpuacct").join("cpuacct.usage")).unwrap_or(0),
            memory_bytes: used,
            working_set_bytes: used.saturating_sub(value("total_inactive_file")),
            rss_bytes: value("total_rss"),
            page_faults: value("total_pgfault"),
            major_page_faults: value("total_pgmajfault"),
            memory_limit_bytes: limit,
        })
    }

    fn usage_v2(&self) -> Option<Usage> {
        let folder = self.folder("");
        let stat = read_map(&folder.join("memory.stat"))?;
        let used = read_number(&folder.join("memory.current"))?;
        let value = |key: &str| stat.get(key).copied().unwrap_or(0);
        let cpu = read_map(&folder.join("cpu.stat")).unwrap_or_default();
        Some(Usage {
            cpu_nanos: cpu.get("usage_usec").copied().unwrap_or(0).saturating_mul(1000),
            memory_bytes: used,
            working_set_bytes: used.saturating_sub(value("inactive_file")),
            rss_bytes: value("anon"),
            page_faults: value("pgfault"),
            major_page_faults: value("pgmajfault"),
            memory_limit_bytes: read_number(&folder.join("memory.max")),
        })
    }

    /// Changes the limits that `resources` names.
    pub(crate) fn update(&self, resources: &LinuxContainerResources) -> io::Result<()> {
        let mut writes = if self.unified {
            self.writes_v2(resources)
        } else {
            self.writes_v1(resources)
        };
        for (name, value) in [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ] {
            if !value.is_empty() {
                writes.push((self.folder("cpuset").join(name), value.clone()));
            }
        }
        for (path, value) in writes {
            fs::write(&path, &value).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot write {value} to {}: {error}", path.display()),
                )
            })?;
        }
        Ok(())
    }

    fn writes_v1(&self, resources: &LinuxContainerResources) -> Vec<(PathBuf, String)> {
        let mut writes = Vec::new();
        let numbers = [
            ("cpu", "cpu.cfs_period_us", resources.cpu_period),
            ("cpu", "cpu.cfs_quota_us", resources.cpu_quota),
            ("cpu", "cpu.shares", resources.cpu_shares),
        ];
        for (controller, name, value) in numbers {
            if value != 0 {
                writes.push((self.folder(controller).join(name), value.to_string()));
            }
        }
        if resources.memory_limit_in_bytes != 0 {
            let memory = self.folder("memory");
            let limit = (
                memory.join("memory.limit_in_bytes"),
                resources.memory_limit_in_bytes.to_string(),
            );
            let swap = memory.join("memory.memsw.limit_in_bytes");
            if swap.exists() {
                // Memory with swap may never be less than memory: the order depends on the direction.
                let both = if resources.memory_swap_limit_in_bytes == 0 {
                    resources.memory_limit_in_bytes
                } else {
                    resources.memory_swap_limit_in_bytes
                };
                let now = read_number(&swap).unwrap_or(u64::MAX);
                let swap = (swap, both.to_string());
                let grows = u64::try_from(both).map_or(true, |both| both > now);
                writes.extend(if grows { [swap, limit] } else { [limit, swap] });
            } else {
                writes.push(limit);
            }
        }
        writes
    }

    fn writes_v2(&self, resources: &LinuxContainerResources) -> Vec<(PathBuf, String)> {
        let folder = self.folder("");
        let mut writes = Vec::new();
        if resources.cpu_quota != 0 || resources.cpu_period != 0 {
            let quota = if resources.cpu_quota > 0 {
                resources.cpu_quota.to_string()
            } else {
                "max".to_owned()
            };
            let period = if resources.cpu_period > 0 {
                resources.cpu_period
            } else {
                100_000
            };
            writes.push((folder.join("cpu.max"), format!("{quota} {period}")));
        }
        if resources.cpu_shares != 0 {
            writes.push((folder.join("cpu.weight"), weight(resources.cpu_shares).to_string()));
        }
        if resources.memory_limit_in_bytes != 0 {
            let limit = resources.memory_limit_in_bytes;
            writes.push((
                folder.join("memory.max"),
                if limit > 0 { limit.to_string() } else { "max".to_owned() },
            ));
        }
        writes.extend(
            resources
                .unified
                .iter()
                .map(|(name, value)| (folder.join(name.replace('/', "")), value.clone())),
        );
        writes
    }
}

/// v1's shares (2 to 262144) as v2's weight (1 to 10000), by the formula every runtime uses.
fn weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9_999) / 262_142
}

fn collect(folder: &Path, processes: &mut Vec<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    processes.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for folder in folders_in(folder) {
        collect(&folder, processes);
    }
}

fn remove_tree(folder: &Path) {
    for below in folders_in(folder) {
        remove_tree(&below);
    }
    // Busy or gone: the caller has killed what was in it, and an empty folder harms nobody.
    fs::remove_dir(folder).unwrap_or_default();
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_map(path: &Path) -> Option<BTreeMap<String, u64>> {
    let text = fs::read_to_string(path).ok()?;
    let pairs = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    });
    Some(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_become_weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
    }
}
