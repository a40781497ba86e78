//! Pure decisions of the controllers: what is observed in, a plan out.
//!
//! One module per controller, each with an `Observed`, a total function `plan(&Observed, now) -> Plan`, and nothing
//! else that acts. This crate must not know of a client, a clock, chance, or an async runtime; the `controllers` crate
//! gathers what is observed and carries the plans out.

pub mod attach_detach;
pub mod certificates;
pub mod claims;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod garbage;
pub mod job;
pub mod namespaces;
pub mod node_lifecycle;
pub mod pod_garbage;
pub mod quota;
pub mod replicaset;
pub mod selection;
pub mod service_accounts;
pub mod statefulset;
pub mod taint_eviction;
pub mod ttl;
pub mod why;

mod any_object;
mod claiming;
mod difference;
mod kind;
mod names;
mod owner;
mod placement;
mod plan;
mod pods;

pub use any_object::{AnyObject, ObjectName};
pub use kind::{Key, Kind};
pub use owner::{controller_of, is_terminating, owner_reference};
pub use plan::{
    Action, Announcement, Chain, Event, EventType, Guard, Notice, Object, Plan, Propagation, Reason, Step, Target,
    Write,
};
