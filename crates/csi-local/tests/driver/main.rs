//! The driver over its socket, with real mounts and loop devices; what is asked is what csi-sanity asks, and more.
//! Nothing here can run without root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod life;
mod refusals;
mod running;
mod size;
mod snapshots;
