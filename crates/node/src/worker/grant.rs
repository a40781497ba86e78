//! The resources a pod wants against those it was granted, and telling of the way between.

use super::Worker;
use crate::events::Severity;
use crate::resize::{self, Resized};
use jiff::Timestamp;
use node_plan::{Delay, Failure, Granted};
use serde_json::{Value, json};
use std::sync::Arc;

/// Between two tries to bring a grant to the control groups.
const RESIZE_DELAY: Delay = Delay { first_s: 2, max_s: 60 };

impl Worker {
    /// What the pod has at the worker's start: what an earlier run granted it, else what it wants.
    pub(super) fn first_grant(&mut self) {
        let Some(spec) = self.wanted.spec.clone() else { return };
        let granted = resize::load(&self.node, &self.uid).unwrap_or_else(|| Granted {
            containers: node_plan::wanted(&spec),
            ..Granted::default()
        });
        self.memory.granted = granted;
        self.use_grant();
        let spec = self.pod.spec.clone().unwrap_or_default();
        self.node.grants.has(&self.uid, node_plan::requests(&spec));
    }

    /// Grants what the pod wants now, if there is room.
    pub(super) fn grant(&mut self) {
        let phase = self.wanted.status.as_ref().and_then(|s| s.phase.as_deref());
        if self.removed || matches!(phase, Some("Succeeded" | "Failed")) {
            self.node.grants.release(&self.uid);
            self.memory.resize_pending = None;
            return self.use_grant();
        }
        let spec = self.wanted.spec.clone().unwrap_or_default();
        let wanted = node_plan::wanted(&spec);
        let granted = &self.memory.granted.containers;
        let is_granted = wanted
            .iter()
            .all(|(name, resources)| granted.get(name).is_some_and(|g| node_plan::is_same(g, resources)));
        if is_granted || self.memory.stopping.is_some() {
            self.memory.resize_pending = None;
            return self.use_grant();
        }
        let allocatable = self.node.machine.allocatable(&self.node.config);
        let requests = node_plan::requests(&spec);
        match self
            .node
            .grants
            .try_grant(&self.uid, requests, &allocatable, &self.wake)
        {
            Ok(()) => {
                let before = self.pod.spec.clone().unwrap_or_default();
                let granted = &mut self.memory.granted;
                granted.cgroup.get_or_insert_with(|| node_plan::pod_resources(&before));
                granted.containers = wanted;
                self.memory.resize_pending = None;
                self.memory.resize_failure = None;
                self.is_resizing = true;
                self.use_grant();
                self.remember_grant();
                self.tell_resize(Severity::Normal, "ResizeStarted", "Pod resize started", None);
            }
            Err(pending) => {
                let is_news = self.memory.resize_pending.as_ref() != Some(&pending);
                self.use_grant();
                if is_news {
                    let (reason, what) = match pending.reason {
                        "Infeasible" => ("ResizeInfeasible", "Pod resize Infeasible"),
                        _ => ("ResizeDeferred", "Pod resize Deferred"),
                    };
                    self.tell_resize(Severity::Warning, reason, what, Some(&pending.message));
                }
                self.memory.resize_pending = Some(pending);
            }
        }
    }

    /// From here on the pod is one that wants what it was granted.
    fn use_grant(&mut self) {
        let other = node_plan::with_granted(&self.wanted, &self.memory.granted.containers);
        self.pod = other.map_or_else(|| self.wanted.clone(), Arc::new);
    }

    fn remember_grant(&self) {
        if let Err(error) = resize::save(&self.node, &self.uid, &self.memory.granted) {
            tracing::warn!(%error, pod = self.name(), "what the pod was granted could not be written down");
        }
    }

    /// Remembers how far a resize came.
    pub(super) fn resized(&mut self, resized: Resized, now: Timestamp) {
        let Resized {
            applied,
            cgroup,
            failure,
        } = resized;
        let granted = &mut self.memory.granted;
        granted.cgroup = Some(cgroup);
        granted.applied.extend(applied);
        let known = &self.records.containers;
        granted
            .applied
            .retain(|id, _| known.iter().any(|r| r.container.id == *id));
        self.remember_grant();
        let Some(message) = failure else {
            self.memory.resize_failure = None;
            return;
        };
        let before = self.memory.resize_failure.as_ref();
        let times = before.map_or(1, |f| f.times.saturating_add(1));
        if before.is_none_or(|f| f.message != message) {
            self.tell_resize(Severity::Warning, "ResizeError", "Pod resize error", Some(&message));
        }
        self.memory.resize_failure = Some(Failure {
            message,
            retry_at: RESIZE_DELAY.retry_at(now, times),
            times,
        });
    }

    /// Tells, once, that everything has what it was granted.
    pub(super) fn tell_resized(&mut self, conditions: &[api::k8s::api::core::v1::PodCondition]) {
        let goes_on = conditions.iter().any(|c| c.type_ == "PodResizeInProgress");
        if self.is_resizing && !goes_on {
            self.is_resizing = false;
            self.tell_resize(Severity::Normal, "ResizeCompleted", "Pod resize completed", None);
        }
    }

    fn tell_resize(&self, severity: Severity, reason: &'static str, what: &str, error: Option<&str>) {
        let spec = self.wanted.spec.clone().unwrap_or_default();
        let list = node_plan::wanted(&spec);
        let one = |name: &String| {
            list.get(name)
                .map(|resources| json!({"name": name, "resources": resources}))
        };
        let containers: Vec<Value> = spec.containers.iter().filter_map(|c| one(&c.name)).collect();
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars: Vec<Value> = sidecars.filter_map(|c| one(&c.name)).collect();
        let mut summary = json!({"containers": containers, "generation": self.wanted.metadata.generation});
        if !sidecars.is_empty() {
            summary["initContainers"] = sidecars.into();
        }
        if let Some(error) = error {
            summary["error"] = error.into();
        }
        self.node
            .recorder
            .pod(&self.wanted, None, severity, reason, format!("{what}: {summary}"));
    }
}
