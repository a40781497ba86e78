//! Packets to Services: what kube-proxy does, with nftables.
//!
//! `service` reads objects, `rules` decides what one Service needs of the packet filter (`element`s of maps, chains that
//! Services share by their `shape`), `ruleset` turns the difference between two decisions into one atomic `transaction`,
//! `stale` says which connections are to be forgotten; none of them knows of processes or sockets. `run` follows the
//! API, hands transactions to `nft`, forgets connections through `conntrack`, and tells load balancers of this node's
//! endpoints through `health`.
//!
//! The rules are the kernel's: they go on when this process ends, and a restart replaces them in one step without
//! touching connections that are established. This crate must not know who runs pods or where; it sees the cluster
//! through the Kubernetes API only.

mod affinity;
mod claims;
mod cluster;
mod conntrack;
mod element;
mod frame;
mod health;
mod nft;
mod rules;
mod ruleset;
mod run;
mod service;
mod shape;
mod stale;
mod topology;
mod transaction;
mod zone;

pub use nft::{NftError, remove};
pub use run::{Config, run};
