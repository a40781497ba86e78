//! A CSI driver for local disks.
//!
//! A volume is a directory, an image of a file system on a loop device (so that its size is a limit and can grow while
//! it is used), or the loop device itself. All that is known of it lies in files below the data directory; what is
//! mounted and attached is read from the kernel, so the driver may be killed at any moment.
//! This crate must not know Kubernetes' API, nor who calls the driver.
#![deny(unsafe_code)]

mod capability;
mod content;
mod controller;
mod devices;
mod disk;
mod growth;
mod identity;
mod mounts;
mod node;
mod registration;
mod serve;
mod shelf;
mod snapshots;
mod volume;

pub use devices::{detach_below, thaw_below};
pub use serve::{Config, Error, serve};

/// The driver's name.
pub const DRIVER: &str = "local.csi.steadfast.io";
/// Which node a volume is on.
pub const TOPOLOGY: &str = "topology.local.csi.steadfast.io/node";
