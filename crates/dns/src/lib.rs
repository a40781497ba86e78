//! Cluster DNS: the names of Services and their endpoints, as the Kubernetes DNS specification has them.
//!
//! `records` and `zone` decide what the names are and know nothing of sockets; the rest follows the API and answers
//! queries. Names outside the cluster are asked of the host's name servers.
//!
//! This crate must not know who runs pods or where; it sees the cluster through the Kubernetes API only.

mod cluster;
mod handler;
mod link;
mod records;
mod serve;
mod upstream;
mod zone;

pub use link::{LINK_NAME, LinkError, ensure_addresses, remove_link};
pub use serve::{Config, run};
pub use upstream::Upstream;
