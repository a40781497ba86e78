//! CRI's filters.

use std::collections::HashMap;

use cri::v1::{ContainerFilter, ContainerStatsFilter, PodSandboxFilter};

use crate::container::Container;
use crate::sandbox::Sandbox;

/// Whether all of `wanted` are among `labels`.
fn has_labels(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn has_id(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

pub(super) fn sandbox(sandbox: &Sandbox, filter: &PodSandboxFilter) -> bool {
    has_id(&sandbox.id, &filter.id)
        && filter.state.is_none_or(|state| state.state() == sandbox.state())
        && has_labels(&sandbox.config.labels, &filter.label_selector)
}

pub(super) fn container(container: &Container, filter: &ContainerFilter) -> bool {
    has_id(&container.id, &filter.id)
        && has_id(&container.record.sandbox_id, &filter.pod_sandbox_id)
        && filter.state.is_none_or(|state| state.state() == container.state())
        && has_labels(&container.config.labels, &filter.label_selector)
}

pub(super) fn stats(container: &Container, filter: &ContainerStatsFilter) -> bool {
    has_id(&container.id, &filter.id)
        && has_id(&container.record.sandbox_id, &filter.pod_sandbox_id)
        && has_labels(&container.config.labels, &filter.label_selector)
}
