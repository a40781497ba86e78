//! What containers use.

use cri::v1::{ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, MemoryUsage, UInt64Value};

use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::monitor::plan::now;
use crate::rootfs;

/// What a container uses now. One that has ended uses only its writable layer.
pub(super) fn of(container: &Container) -> ContainerStats {
    let timestamp = now();
    let value = |value: u64| Some(UInt64Value { value });
    let usage = Cgroup::new(&container.record.cgroup)
        .usage()
        .filter(|_| container.is_running());
    let available = |used: u64, limit: Option<u64>| {
        limit.map(|limit| UInt64Value {
            value: limit.saturating_sub(used),
        })
    };
    let upper = rootfs::writable(&container.folder);
    let (bytes, inodes) = rootfs::usage(&upper);
    ContainerStats {
        attributes: Some(container.attributes()),
        cpu: usage.map(|usage| CpuUsage {
            timestamp,
            usage_core_nano_seconds: value(usage.cpu_nanos),
            ..CpuUsage::default()
        }),
        memory: usage.map(|usage| MemoryUsage {
            timestamp,
            working_set_bytes: value(usage.working_set_bytes),
            available_bytes: available(usage.working_set_bytes, usage.memory_limit_bytes),
            usage_bytes: value(usage.memory_bytes),
            rss_bytes: value(usage.rss_bytes),
            page_faults: value(usage.page_faults),
            major_page_faults: value(usage.major_page_faults),
            psi: None,
        }),
        writable_layer: Some(FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier {
                mountpoint: upper.display().to_string(),
            }),
            used_bytes: value(bytes),
            inodes_used: value(inodes),
        }),
        ..ContainerStats::default()
    }
}
