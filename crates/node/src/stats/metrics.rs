//! `/metrics`, `/metrics/resource` and `/metrics/cadvisor`: the text that Prometheus reads.

use super::{ContainerUse, PodUse, Snapshot};
use crate::run::Node;
use std::fmt::Write;

/// A metric under construction.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("writing to a string cannot fail");
    }

    /// One number; `at_ms` where the moment matters.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at_ms: Option<i64>) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let at = at_ms.map_or(String::new(), |at| format!(" {at}"));
        self.write(format_args!("{name}{labels} {value}{at}\n"));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

fn names(pod: &PodUse) -> (&str, &str) {
    let meta = &pod.pod.metadata;
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

type Read = fn(&ContainerUse) -> Option<f64>;

/// A metric of containers.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: Read,
}

const fn family(name: &'static str, kind: &'static str, help: &'static str, value: Read) -> Family {
    Family {
        name,
        kind,
        help,
        value,
    }
}

fn cpu_seconds(c: &ContainerUse) -> Option<f64> {
    c.cpu_nanos.map(seconds)
}

fn working_set(c: &ContainerUse) -> Option<f64> {
    c.memory.map(|m| float(m.working_set))
}

fn start_time(c: &ContainerUse) -> Option<f64> {
    c.started_at.map(|t| t.as_duration().as_secs_f64())
}

const RESOURCE: [Family; 3] = [
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        cpu_seconds,
    ),
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        working_set,
    ),
    family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        start_time,
    ),
];

const RESOURCE_OF_PODS: [Family; 2] = [
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        cpu_seconds,
    ),
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        working_set,
    ),
];

const CADVISOR: [Family; 6] = [
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        cpu_seconds,
    ),
    family(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, whenever it was last used.",
        |c| c.memory.map(|m| float(m.usage)),
    ),
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        working_set,
    ),
    family("container_memory_rss", "gauge", "Size of RSS in bytes.", |c| {
        c.memory.map(|m| float(m.rss))
    }),
    family(
        "container_fs_usage_bytes",
        "gauge",
        "Bytes that the container has written to its own layer.",
        |c| Some(float(c.layer.0)),
    ),
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        start_time,
    ),
];

/// What metrics-server asks for.
pub(crate) fn resource(seen: &Snapshot) -> String {
    let mut text = Text(String::new());
    let at = Some(seen.at.as_millisecond());
    for family in &RESOURCE {
        text.family(family.name, family.kind, family.help);
        for pod in &seen.pods {
            let (namespace, pod_name) = names(pod);
            for c in &pod.containers {
                let labels = [
                    ("container", c.name.as_str()),
                    ("namespace", namespace),
                    ("pod", pod_name),
                ];
                if let Some(value) = (family.value)(c) {
                    text.sample(family.name, &labels, value, at);
                }
            }
        }
    }
    let name = "node_cpu_usage_seconds_total";
    text.family(
        name,
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    text.sample(name, &[], seconds(seen.machine.cpu_nanos), at);
    let name = "node_memory_working_set_bytes";
    text.family(name, "gauge", "[STABLE] Current working set of the node in bytes");
    text.sample(name, &[], float(seen.machine.memory_working_set_bytes), at);
    for family in &RESOURCE_OF_PODS {
        text.family(family.name, family.kind, family.help);
        for pod in seen.pods.iter().filter(|p| !p.containers.is_empty()) {
            let (namespace, pod_name) = names(pod);
            let sum = pod.containers.iter().filter_map(family.value).sum();
            text.sample(family.name, &[("namespace", namespace), ("pod", pod_name)], sum, at);
        }
    }
    let name = "resource_scrape_error";
    text.family(
        name,
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    text.sample(name, &[], 0.0, None);
    text.0
}

/// Containers in the words of cAdvisor, as far as the runtime tells of them.
pub(crate) fn cadvisor(node: &Node, seen: &Snapshot) -> String {
    let mut text = Text(String::new());
    let at = Some(seen.at.as_millisecond());
    for family in &CADVISOR {
        text.family(family.name, family.kind, family.help);
        for pod in &seen.pods {
            let (namespace, pod_name) = names(pod);
            for c in &pod.containers {
                let labels = [
                    ("container", c.name.as_str()),
                    ("id", c.id.as_str()),
                    ("image", c.image.as_str()),
                    ("name", c.id.as_str()),
                    ("namespace", namespace),
                    ("pod", pod_name),
                ];
                if let Some(value) = (family.value)(c) {
                    text.sample(family.name, &labels, value, at);
                }
            }
        }
    }
    text.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    text.sample("machine_cpu_cores", &[], f64::from(node.machine.cpus), None);
    text.family(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    );
    text.sample(
        "machine_memory_bytes",
        &[],
        float(node.machine.memory_bytes.unsigned_abs()),
        None,
    );
    text.0
}

/// The agent's own numbers.
pub(crate) fn kubelet(node: &Node, seen: &Snapshot) -> String {
    let mut text = Text(String::new());
    text.family(
        "kubelet_node_name",
        "gauge",
        "[ALPHA] The node's name. The count is always 1.",
    );
    text.sample("kubelet_node_name", &[("node", &node.config.node_name)], 1.0, None);
    let running = seen.pods.iter().filter(|p| !p.containers.is_empty()).count();
    text.family(
        "kubelet_running_pods",
        "gauge",
        "[ALPHA] Number of pods that have a running pod sandbox",
    );
    text.sample("kubelet_running_pods", &[], float(running as u64), None);
    let containers: usize = seen.pods.iter().map(|p| p.containers.len()).sum();
    text.family(
        "kubelet_running_containers",
        "gauge",
        "[ALPHA] Number of containers currently running",
    );
    text.sample(
        "kubelet_running_containers",
        &[("container_state", "running")],
        float(containers as u64),
        None,
    );
    text.family(
        "kubernetes_build_info",
        "gauge",
        "[ALPHA] A metric with a constant '1' value labeled by the version.",
    );
    text.sample(
        "kubernetes_build_info",
        &[("git_version", &node.config.version)],
        1.0,
        None,
    );
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{MachineUse, Memory};
    use api::k8s::api::core::v1::Pod;
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use jiff::Timestamp;
    use std::sync::Arc;

    #[test]
    fn metrics_server_finds_what_it_asks_for() {
        let metadata = ObjectMeta {
            name: Some("web-0".to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        };
        let container = ContainerUse {
            name: "web".to_owned(),
            cpu_nanos: Some(1_500_000_000),
            memory: Some(Memory {
                working_set: 4096,
                ..Memory::default()
            }),
            ..ContainerUse::default()
        };
        let seen = Snapshot {
            machine: MachineUse {
                cpu_nanos: 2_000_000_000,
                ..MachineUse::default()
            },
            pods: vec![PodUse {
                pod: Arc::new(Pod {
                    metadata,
                    ..Pod::default()
                }),
                containers: vec![container],
                volumes: Vec::new(),
                driven: Vec::new(),
            }],
            at: Timestamp::from_second(1).expect("a time"),
        };
        let text = resource(&seen);
        for line in [
            "container_cpu_usage_seconds_total{container=\"web\",namespace=\"default\",pod=\"web-0\"} 1.5 1000",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"web-0\"} 4096 1000",
            "node_cpu_usage_seconds_total 2 1000",
            "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web-0\"} 4096 1000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert_eq!(escaped("a\"b\\"), "a\\\"b\\\\");
    }
}
