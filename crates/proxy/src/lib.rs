//! Packets to Services: what kube-proxy does, with nftables.
//!
//! `service` reads objects, `rules` decides what one Service needs of the packet filter, `ruleset` turns the difference
//! between two decisions into one atomic transaction; none of them knows of processes or sockets. `run` follows the
//! API and hands transactions to `nft`.
//!
//! The rules are the kernel's: they go on when this process ends, and a restart replaces them in one step without
//! touching connections that are established. This crate must not know who runs pods or where; it sees the cluster
//! through the Kubernetes API only.

mod cluster;
mod nft;
mod rules;
mod ruleset;
mod run;
mod service;

pub use nft::{NftError, remove};
pub use run::{Config, run};
