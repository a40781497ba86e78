//! Volumes that CSI drivers bring: the drivers known here, and what is asked of them.
//!
//! Drivers make themselves known as to a kubelet: a socket in `plugins_registry` below the agent's root. What was asked
//! of a driver for a pod is written beside the pod's volume before it is asked, so that it can be taken back whatever
//! happens in between.

pub(crate) mod attachment;
pub(crate) mod drivers;
pub(crate) mod expand;
pub(crate) mod mount;
pub(crate) mod node_info;
pub(crate) mod plugins;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod source;
pub(crate) mod usage;

pub(crate) use drivers::{Driver, Drivers};
