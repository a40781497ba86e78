//! ReplicaSets, Deployments, DaemonSets, Jobs and what goes with them, over the API, with model nodes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

mod cluster;
mod daemons;
mod deployments;
mod disruption;
mod jobs;
mod nodes;
mod quotas;
mod replicasets;
