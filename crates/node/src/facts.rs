//! The machine, as it is.

use crate::config::Config;
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Facts of the machine that do not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) cpus: u32,
    /// Memory in bytes.
    pub(crate) memory_bytes: i64,
    /// Size of the file system below the agent's root, in bytes.
    pub(crate) storage_bytes: u64,
    /// `/etc/machine-id`.
    pub(crate) machine_id: String,
    /// The firmware's id of the machine, else the machine id.
    pub(crate) system_uuid: String,
    /// Changes with each boot.
    pub(crate) boot_id: String,
    /// Kernel release.
    pub(crate) kernel: String,
    /// `PRETTY_NAME` of the system.
    pub(crate) os_image: String,
    /// The lowest `oom_score_adj` that this process may give.
    pub(crate) oom_score_adj_min: i64,
}

/// CAP_SYS_RESOURCE in the capability mask.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

impl Machine {
    /// Looks at the machine. What cannot be read is left empty.
    pub(crate) fn look(root_dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = read("/etc/machine-id");
        let uuid = read("/sys/class/dmi/id/product_uuid");
        let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let storage = nix::sys::statvfs::statvfs(root_dir);
        Self {
            cpus,
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            storage_bytes: storage.map_or(0, |s| s.blocks().saturating_mul(s.fragment_size())),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: os_image(&read("/etc/os-release")),
            oom_score_adj_min: oom_score_adj_min(&read("/proc/self/status"), &read("/proc/self/oom_score_adj")),
        }
    }

    /// All resources.
    pub(crate) fn capacity(&self, config: &Config) -> BTreeMap<String, Quantity> {
        self.resources(config, u64::from(self.cpus) * 1000, self.memory_bytes.unsigned_abs())
    }

    /// What pods may use.
    pub(crate) fn allocatable(&self, config: &Config) -> BTreeMap<String, Quantity> {
        let milli = (u64::from(self.cpus) * 1000).saturating_sub(u64::from(config.reserved.cpu_milli));
        let memory = self
            .memory_bytes
            .unsigned_abs()
            .saturating_sub(config.reserved.memory_bytes);
        self.resources(config, milli, memory)
    }

    fn resources(&self, config: &Config, cpu_milli: u64, memory_bytes: u64) -> BTreeMap<String, Quantity> {
        let cpu = if cpu_milli.is_multiple_of(1000) {
            (cpu_milli / 1000).to_string()
        } else {
            format!("{cpu_milli}m")
        };
        [
            ("cpu", cpu),
            ("memory", format!("{}Ki", memory_bytes / 1024)),
            ("ephemeral-storage", format!("{}Ki", self.storage_bytes / 1024)),
            ("pods", config.max_pods.to_string()),
        ]
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .collect()
    }
}

fn memory_bytes(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse::<i64>().ok())
        .unwrap_or(0);
    kib.saturating_mul(1024)
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |n| n.trim_matches('"').to_owned())
}

/// Without CAP_SYS_RESOURCE a process cannot lower the value below its own.
fn oom_score_adj_min(status: &str, own: &str) -> i64 {
    let caps = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .map(str::trim);
    let caps = caps.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    if caps & CAP_SYS_RESOURCE != 0 {
        -1000
    } else {
        own.parse().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1 << 20);
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
        assert_eq!(oom_score_adj_min("CapEff:\t000001fffeffffff\n", "0"), 0);
        assert_eq!(oom_score_adj_min("CapEff:\t000001ffffffffff\n", "0"), -1000);
    }

    #[test]
    fn this_machine_has_something_to_offer() {
        let machine = Machine::look(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.storage_bytes > 0);
    }
}
