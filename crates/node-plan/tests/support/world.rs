//! A runtime and an API reduced to what plans see, for carrying steps out.

use api::k8s::api::core::v1::{Container as Definition, Pod, PodSpec, PodStatus};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use jiff::{SignedDuration, Timestamp};
use node_plan::{
    Container, ContainerState, Job, Memory, Observed, Plan, Sandbox, Step, Verdicts, Volumes, container_hash, plan,
    stopping,
};
use std::collections::BTreeMap;

/// The world around one pod.
pub(crate) struct World {
    pub(crate) pod: Pod,
    pub(crate) removed: bool,
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
    pub(crate) memory: Memory,
    pub(crate) volumes: Volumes,
    pub(crate) busy: BTreeMap<String, Job>,
    pub(crate) now: Timestamp,
    made: u32,
    /// Every step carried out, for messages.
    pub(crate) history: Vec<String>,
}

pub(crate) fn container(name: &str) -> Definition {
    Definition {
        name: name.into(),
        image: Some("image:1".into()),
        ..Definition::default()
    }
}

pub(crate) fn pod(spec: PodSpec) -> Pod {
    let metadata = ObjectMeta {
        name: Some("web-0".into()),
        namespace: Some("default".into()),
        uid: Some("u1".into()),
        generation: Some(1),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

impl World {
    pub(crate) fn new(pod: Pod) -> Self {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        Self {
            pod,
            removed: false,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            memory: Memory {
                seen_at: now,
                ..Memory::default()
            },
            volumes: Volumes::Unknown,
            busy: BTreeMap::new(),
            now,
            made: 0,
            history: Vec::new(),
        }
    }

    pub(crate) fn plan(&mut self) -> Plan {
        let seen = Observed {
            pod: &self.pod,
            removed: self.removed,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            memory: &self.memory,
            volumes: &self.volumes,
            busy: &self.busy,
            host_ips: &["192.0.2.2".to_owned()],
            runtime: "containerd",
        };
        let stop = stopping(&seen, self.now);
        let memory = Memory {
            stopping: stop,
            ..self.memory.clone()
        };
        let plan = plan(
            &Observed {
                memory: &memory,
                ..seen
            },
            self.now,
        );
        self.memory.stopping = stop;
        plan
    }

    /// Plans, tells the API, and carries the steps out; the plan.
    pub(crate) fn step(&mut self) -> Plan {
        let plan = self.plan();
        let ends = |s: &Step| {
            matches!(
                s,
                Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } | Step::DeletePod
            )
        };
        if self.memory.stopping.is_some() && self.memory.last_status.is_none() && plan.steps.iter().any(ends) {
            self.memory.last_status = Some(plan.status.clone());
        }
        if !self.removed {
            self.pod.status = Some(plan.status.clone());
        }
        for step in &plan.steps {
            self.history.push(format!("{step:?}"));
            self.carry_out(step);
        }
        plan
    }

    /// Goes on until nothing is to be done now; the last plan.
    pub(crate) fn settle(&mut self) -> Plan {
        for _ in 0..200 {
            let plan = self.step();
            if plan.steps.is_empty() {
                return plan;
            }
        }
        panic!("never quiet: {:#?}", &self.history[self.history.len() - 20..]);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(seconds))
            .expect("a time");
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::PrepareVolumes => self.volumes = Volumes::Ready,
            Step::UnmountVolumes => {
                assert!(!self.anything_runs(), "volumes are taken from a running container");
                self.volumes = Volumes::Unmounted;
            }
            Step::CreateSandbox { attempt } => self.create_sandbox(*attempt),
            Step::StopSandbox { id } => self.stop_sandbox(id),
            Step::RemoveSandbox { id } => self.sandboxes.retain(|s| s.id != *id),
            Step::Start {
                name,
                sandbox_id,
                restart_count,
                backoff_s,
            } => {
                self.start(name, sandbox_id, *restart_count, *backoff_s);
            }
            Step::Kill { id, .. } => self.exit(&id.clone(), 143),
            Step::RemoveContainer { id, .. } => self.containers.retain(|c| c.id != *id),
            Step::DeletePod => {
                assert!(
                    self.containers.is_empty() && self.sandboxes.is_empty(),
                    "something is left"
                );
                self.memory.deleted = true;
                self.removed = true;
            }
            // The world has nothing that changes size.
            Step::CancelStart { .. } | Step::Resize { .. } => {}
        }
    }

    fn anything_runs(&self) -> bool {
        self.containers.iter().any(|c| c.state == ContainerState::Running)
    }

    fn create_sandbox(&mut self, attempt: u32) {
        assert!(
            self.sandboxes
                .iter()
                .all(|s| self.memory.stopped_sandboxes.contains(&s.id)),
            "two live sandboxes"
        );
        self.made += 1;
        self.sandboxes.push(Sandbox {
            id: format!("s{}", self.made),
            attempt,
            ready: true,
            created_at: self.now,
            ips: vec![format!("10.244.0.{}", self.made % 250)],
        });
    }

    fn stop_sandbox(&mut self, id: &str) {
        self.memory.stopped_sandboxes.insert(id.to_owned());
        self.sandbox_dies(id);
    }

    /// The sandbox and all in it end.
    pub(crate) fn sandbox_dies(&mut self, id: &str) {
        for s in self.sandboxes.iter_mut().filter(|s| s.id == id) {
            s.ready = false;
        }
        let inside: Vec<String> = self
            .containers
            .iter()
            .filter(|c| c.sandbox_id == id)
            .map(|c| c.id.clone())
            .collect();
        for id in inside {
            self.exit(&id, 137);
        }
    }

    fn start(&mut self, name: &str, sandbox_id: &str, restart_count: i32, backoff_s: u32) {
        let live = |c: &&Container| c.name == name && c.state == ContainerState::Running;
        assert!(!self.containers.iter().any(|c| live(&c)), "two live containers {name}");
        let sandbox = self
            .sandboxes
            .iter()
            .find(|s| s.id == sandbox_id)
            .expect("the sandbox is there");
        assert!(sandbox.ready, "started in a dead sandbox");
        self.check_order(name, sandbox_id);
        self.made += 1;
        let spec = self.pod.spec.clone().expect("a spec");
        let definition = node_plan::definition(&spec, name);
        let id = format!("c{}", self.made);
        self.memory.verdicts.insert(
            id.clone(),
            Verdicts {
                started: true,
                ready: true,
            },
        );
        self.containers.push(Container {
            id,
            sandbox_id: sandbox_id.to_owned(),
            name: name.to_owned(),
            restart_count,
            backoff_s,
            state: ContainerState::Running,
            created_at: self.now,
            started_at: Some(self.now),
            hash: container_hash(&definition.expect("a definition")),
            ..Container::default()
        });
    }

    /// No container before all init containers have succeeded in its sandbox, but for ephemeral ones.
    fn check_order(&self, name: &str, sandbox_id: &str) {
        let spec = self.pod.spec.as_ref().expect("a spec");
        if spec.ephemeral_containers.iter().flatten().any(|c| c.name == name) {
            return;
        }
        let init: Vec<&Definition> = spec.init_containers.iter().flatten().collect();
        let at = init.iter().position(|d| d.name == name).unwrap_or(init.len());
        for before in init[..at].iter().filter(|d| d.restart_policy.is_none()) {
            let done = |c: &&Container| {
                c.name == before.name
                    && c.sandbox_id == sandbox_id
                    && c.state == ContainerState::Exited
                    && c.exit_code == 0
            };
            let passed = self
                .containers
                .iter()
                .any(|c| c.sandbox_id == sandbox_id && c.name == "main");
            assert!(
                passed || self.containers.iter().any(|c| done(&c)),
                "{name} before {}",
                before.name
            );
        }
    }

    /// A container's process ends.
    pub(crate) fn exit(&mut self, id: &str, code: i32) {
        let now = self.now;
        for c in self
            .containers
            .iter_mut()
            .filter(|c| c.id == id && c.state == ContainerState::Running)
        {
            c.state = ContainerState::Exited;
            c.exit_code = code;
            c.finished_at = Some(now);
        }
    }

    /// The running container of a name.
    pub(crate) fn running(&self, name: &str) -> Option<String> {
        let found = self
            .containers
            .iter()
            .find(|c| c.name == name && c.state == ContainerState::Running);
        found.map(|c| c.id.clone())
    }

    /// The running container of a name ends.
    pub(crate) fn exit_named(&mut self, name: &str, code: i32) {
        if let Some(id) = self.running(name) {
            self.exit(&id, code);
        }
    }

    /// Somebody deletes the pod.
    pub(crate) fn delete(&mut self, grace_s: i64) {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace_s);
    }

    /// The agent is killed and started again: what only it knew is lost.
    pub(crate) fn forget(&mut self) {
        let verdicts = self.memory.verdicts.clone();
        self.memory = Memory {
            seen_at: self.now,
            verdicts,
            ..Memory::default()
        };
        self.volumes = Volumes::Unknown;
        self.busy.clear();
    }

    pub(crate) fn status(&self) -> PodStatus {
        self.pod.status.clone().unwrap_or_default()
    }
}

/// `name=state/reason` of each container, e.g. `main=waiting/CrashLoopBackOff`.
pub(crate) fn states(status: &PodStatus) -> Vec<String> {
    let all = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .chain(status.ephemeral_container_statuses.iter().flatten());
    let text = |s: &api::k8s::api::core::v1::ContainerStatus| {
        let state = s.state.clone().unwrap_or_default();
        let what = match (&state.waiting, &state.terminated) {
            (Some(w), _) => format!("waiting/{}", w.reason.as_deref().unwrap_or_default()),
            (_, Some(t)) => format!("terminated/{}", t.reason.as_deref().unwrap_or_default()),
            _ => "running".to_owned(),
        };
        format!("{}={what}", s.name)
    };
    all.map(text).collect()
}

/// Whether a condition is true.
pub(crate) fn holds(status: &PodStatus, type_: &str) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == type_ && c.status == "True")
}
