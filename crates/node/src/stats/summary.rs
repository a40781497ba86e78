//! `/stats/summary`: one JSON document of everything, as `stats.k8s.io/v1alpha1` has it.

use super::{ContainerUse, Filesystem, PodUse, Snapshot};
use crate::csi::usage::Usage;
use crate::run::Node;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The document.
pub(crate) fn summary(node: &Node, seen: &Snapshot) -> Value {
    let now = time(seen.at);
    let machine = &seen.machine;
    let disk = filesystem(&machine.disk, &now);
    json!({
        "node": {
            "nodeName": node.config.node_name,
            "startTime": machine.booted_at.map(time),
            "cpu": cpu(&now, Some(machine.cpu_nanos), machine.cpu_nanos_per_s),
            "memory": {
                "time": now,
                "availableBytes": machine.memory_available_bytes,
                "usageBytes": machine.memory_usage_bytes,
                "workingSetBytes": machine.memory_working_set_bytes,
                "rssBytes": machine.memory_rss_bytes,
            },
            "fs": disk,
            "runtime": {"imageFs": disk, "containerFs": disk},
            "rlimit": {"time": now, "maxpid": machine.pids.1, "curproc": machine.pids.0},
        },
        "pods": seen.pods.iter().filter(|p| !p.containers.is_empty()).map(|p| pod(p, &machine.disk, &now)).collect::<Vec<_>>(),
    })
}

fn pod(of: &PodUse, disk: &Filesystem, now: &str) -> Value {
    let meta = &of.pod.metadata;
    let sum = |value: fn(&ContainerUse) -> Option<u64>| {
        of.containers
            .iter()
            .map(value)
            .try_fold(0u64, |sum, one| Some(sum + one?))
    };
    let (ephemeral_bytes, ephemeral_inodes) = of.ephemeral_storage();
    let started = of
        .pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .map(|t| time(t.0));
    json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": started,
        "containers": of.containers.iter().map(|c| container(c, disk, now)).collect::<Vec<_>>(),
        "cpu": cpu(now, sum(|c| c.cpu_nanos), sum(|c| c.cpu_nanos_per_s)),
        "memory": {
            "time": now,
            "usageBytes": sum(|c| c.memory.map(|m| m.usage)),
            "workingSetBytes": sum(|c| c.memory.map(|m| m.working_set)),
            "rssBytes": sum(|c| c.memory.map(|m| m.rss)),
            "pageFaults": sum(|c| c.memory.map(|m| m.page_faults)),
            "majorPageFaults": sum(|c| c.memory.map(|m| m.major_page_faults)),
        },
        "volume": of.volumes.iter().map(|v| {
            let mut one = part(disk, (v.used_bytes, v.inodes_used), now);
            one.insert("name".to_owned(), json!(v.name));
            Value::Object(one)
        }).chain(of.driven.iter().map(|v| driven(v, meta.namespace.as_deref(), now))).collect::<Vec<_>>(),
        "ephemeral-storage": part(disk, (ephemeral_bytes, ephemeral_inodes), now),
    })
}

fn container(of: &ContainerUse, disk: &Filesystem, now: &str) -> Value {
    let memory = of.memory.map(|m| {
        json!({
            "time": now,
            "usageBytes": m.usage,
            "workingSetBytes": m.working_set,
            "rssBytes": m.rss,
            "pageFaults": m.page_faults,
            "majorPageFaults": m.major_page_faults,
        })
    });
    json!({
        "name": of.name,
        "startTime": of.started_at.map(time),
        "cpu": cpu(now, of.cpu_nanos, of.cpu_nanos_per_s),
        "memory": memory,
        "rootfs": part(disk, of.layer, now),
        "logs": part(disk, of.logs, now),
    })
}

fn cpu(now: &str, nanos: Option<u64>, per_s: Option<u64>) -> Value {
    let mut cpu = Map::from_iter([("time".to_owned(), json!(now))]);
    for (name, value) in [("usageNanoCores", per_s), ("usageCoreNanoSeconds", nanos)] {
        cpu.extend(value.map(|value| (name.to_owned(), json!(value))));
    }
    Value::Object(cpu)
}

fn filesystem(of: &Filesystem, now: &str) -> Value {
    json!({
        "time": now,
        "availableBytes": of.available_bytes,
        "capacityBytes": of.capacity_bytes,
        "usedBytes": of.used_bytes,
        "inodes": of.inodes,
        "inodesFree": of.inodes_free,
        "inodesUsed": of.inodes.saturating_sub(of.inodes_free),
    })
}

/// A part of a file system.
fn part(of: &Filesystem, (used_bytes, inodes_used): (u64, u64), now: &str) -> Map<String, Value> {
    let Value::Object(mut part) = filesystem(of, now) else {
        return Map::new();
    };
    part.insert("usedBytes".to_owned(), json!(used_bytes));
    part.insert("inodesUsed".to_owned(), json!(inodes_used));
    part
}

/// A volume of a CSI driver.
fn driven(of: &Usage, namespace: Option<&str>, now: &str) -> Value {
    let mut one = json!({
        "name": of.name, "time": now,
        "capacityBytes": of.bytes[0], "availableBytes": of.bytes[1], "usedBytes": of.bytes[2],
        "inodes": of.inodes[0], "inodesFree": of.inodes[1], "inodesUsed": of.inodes[2],
    });
    if let Some(claim) = &of.claim {
        one["pvcRef"] = json!({"name": claim, "namespace": namespace});
    }
    one
}

fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
