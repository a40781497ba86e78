//! What keeps a cluster in order besides workloads (endpoints, claims, garbage, namespaces), against the real API server
//! in the same process.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

mod attachments;
mod certificates;
mod claims;
mod cluster;
mod custom;
mod endpoints;
mod garbage;
mod namespaces;
