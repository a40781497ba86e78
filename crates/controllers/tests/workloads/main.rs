//! ReplicaSets, Deployments, DaemonSets, Jobs and what goes with them, over the API, with model nodes.

mod cluster;
mod deployments;
mod disruption;
mod replicasets;
