//! Black-box tests of a running Steadfast with real clients, and the harness that starts one.
//!
//! Everything here goes through the binary's command line, a kubeconfig and sockets; nothing of ours is linked.

pub mod apart;
pub mod cluster;
pub mod containerd;
pub mod control_plane;
pub mod dig;
pub mod dns_server;
pub mod etcd;
pub mod kubectl;
pub mod load;
pub mod process;
