//! What the whole machine uses.

use super::Rates;
use jiff::Timestamp;
use std::fs;
use std::path::Path;

/// The machine's key among the rates; no container has an empty id.
pub(super) const RATE_ID: &str = "";

/// Nanoseconds of a clock tick in /proc/stat; Linux shows 100 a second to all programs.
const NANOS_PER_TICK: u64 = 10_000_000;

/// What the machine uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct MachineUse {
    /// CPU time since the boot.
    pub(crate) cpu_nanos: u64,
    /// CPU time per second, of late.
    pub(crate) cpu_nanos_per_s: Option<u64>,
    /// Memory that is not free.
    pub(crate) memory_usage_bytes: u64,
    /// Memory that cannot be had without hurting anybody.
    pub(crate) memory_working_set_bytes: u64,
    /// All memory less that.
    pub(crate) memory_available_bytes: u64,
    /// Memory of programs' own.
    pub(crate) memory_rss_bytes: u64,
    /// The disk below the agent's root.
    pub(crate) disk: Filesystem,
    /// Processes and threads that are, and that may be.
    pub(crate) pids: (u64, u64),
    /// When the machine started.
    pub(crate) booted_at: Option<Timestamp>,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filesystem {
    pub(crate) capacity_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl Filesystem {
    /// The one that holds `path`; empty if it cannot be seen.
    pub(crate) fn of(path: &Path) -> Self {
        let Ok(stat) = nix::sys::statvfs::statvfs(path) else {
            return Self::default();
        };
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Self {
            capacity_bytes: bytes(stat.blocks()),
            available_bytes: bytes(stat.blocks_available()),
            used_bytes: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        }
    }
}

pub(super) fn look(root_dir: &Path, rates: &Rates, now: Timestamp) -> MachineUse {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/stat");
    let cpu_nanos = busy_ticks(&stat).saturating_mul(NANOS_PER_TICK);
    let meminfo = read("/proc/meminfo");
    let memory = |name: &str| kibibytes(&meminfo, name).saturating_mul(1024);
    let total = memory("MemTotal:");
    let usage = total.saturating_sub(memory("MemFree:"));
    let working_set = usage.saturating_sub(memory("Inactive(file):"));
    let tasks = read("/proc/loadavg");
    let tasks = tasks
        .split(' ')
        .nth(3)
        .and_then(|pair| pair.split('/').nth(1)?.parse().ok());
    MachineUse {
        cpu_nanos,
        cpu_nanos_per_s: rates.of(RATE_ID, cpu_nanos, now),
        memory_usage_bytes: usage,
        memory_working_set_bytes: working_set,
        memory_available_bytes: total.saturating_sub(working_set),
        memory_rss_bytes: memory("AnonPages:"),
        disk: Filesystem::of(root_dir),
        pids: (
            tasks.unwrap_or(0),
            read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
        ),
        booted_at: boot_time(&stat),
    }
}

/// The ticks in which a processor did something: all but "idle" and "iowait", which are the fourth and the fifth.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .unwrap_or_default();
    let ticks = line.split_whitespace().enumerate().take(8);
    ticks
        .filter(|(i, _)| !matches!(i, 3 | 4))
        .filter_map(|(_, text)| text.parse::<u64>().ok())
        .sum()
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

fn kibibytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        let stat = "cpu  100 1 20 5000 300 2 3 4 5 6\ncpu0 1 1 1 1\nbtime 1700000000\n";
        assert_eq!(busy_ticks(stat), 130);
        assert_eq!(boot_time(stat).map(Timestamp::as_second), Some(1_700_000_000));
        assert_eq!(kibibytes("MemTotal:       16 kB\nMemFree: 4 kB\n", "MemFree:"), 4);
        let dir = tempfile::tempdir().expect("a folder");
        let seen = look(dir.path(), &Rates::default(), Timestamp::now());
        assert!(seen.cpu_nanos > 0 && seen.memory_available_bytes > 0 && seen.disk.capacity_bytes > 0);
        assert!(seen.memory_working_set_bytes <= seen.memory_usage_bytes && seen.pids.0 > 0);
    }
}
