//! Cluster DNS: the names of Services and their endpoints, as the Kubernetes DNS specification has them.
//!
//! `records`, `zone` and `answer` decide what the names are and what is said about them; `query` and `response` know
//! the wire format; none of them knows of sockets. The rest follows the API and moves packets. Names outside the
//! cluster are asked of the host's name servers.
//!
//! This crate must not know who runs pods or where; it sees the cluster through the Kubernetes API only.

mod answer;
mod answerer;
mod answers;
mod bind;
mod cluster;
mod datagrams;
mod link;
mod metrics;
mod query;
mod records;
mod response;
mod serve;
mod tcp;
mod udp;
mod upstream;
mod zone;

pub use answers::Answers;
pub use link::{LINK_NAME, LinkError, ensure_addresses, ensure_route, remove_link};
pub use metrics::Metrics;
pub use serve::{Config, run};
pub use upstream::{ParseError, Upstream};
