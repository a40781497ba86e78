//! What a node does next for a pod, and what it says of it: start order, restarts and their back-off, shutdown, probe
//! verdicts, status, environment, DNS, volume contents, resources.
//!
//! Everything here is a pure function of what was seen and of the time that is passed in.
//! This crate must not know of CRI messages, an API client, files or a clock: crate `node` observes and acts.

mod admit;
mod backoff;
mod container_status;
mod definitions;
mod dns;
mod env;
mod env_file;
mod evict;
mod hosts;
mod image;
mod image_gc;
mod observed;
mod payload;
mod phase;
mod plan;
mod probe;
mod resize;
mod resources;
mod restart;
mod start;
mod status;
mod terminate;

pub use admit::{NODE_PORTS, unfit, unselected};
pub use backoff::{Delay, IMAGE_PULL_DELAY, MOUNT_DELAY, RESTART_DELAY, SANDBOX_DELAY};
pub use definitions::{definition, definitions, target_of};
pub use dns::{Cluster, DnsConfig, HostResolver, dns_config};
pub use env::{EnvError, Sources, environment, expand, field_value, resource_value, service_variables};
pub use env_file::{ENV_FILE_BYTES_MAX, EnvFile, EnvFiles, wanted_env_files};
pub use evict::{Candidate, DiskUse, Left, Pressure, first_to_leave, has_disk_limits, over_disk_limits, pressure};
pub use hosts::{hosts_file, pod_hostname};
pub use image::{ImageAction, ImageName, image_action, parse_image, resolve_policy};
pub use image_gc::{ImageUse, superfluous_images};
pub use observed::{
    Container, ContainerState, Failure, Job, Memory, Observed, POD_SUBJECT, Sandbox, StartFailure, Stopping, Verdicts,
    Volumes,
};
pub use payload::{PayloadError, PayloadFile, Wanted, volume_payload, wanted_objects};
pub use plan::{KillReason, Plan, Reason, Step, plan};
pub use probe::{Outcome, ProbeKind, ProbeMachine, probe_of, probes_of};
pub use resize::{
    Granted, Pending, Requests, admit, is_same, larger, memory_shrinks_to, requests, wanted, with_granted,
};
pub use resources::{
    ContainerResources, Qos, cgroup_parent, container_resources, cpu_shares, pod_resources, qos_class,
    quantity_rounded_up,
};
pub use restart::{container_hash, next_backoff_s, restart_at, should_restart};
pub use terminate::stopping;
