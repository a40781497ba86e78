//! The Kubernetes container runtime interface, v1: messages, client and server stubs.
//!
//! `runtime.v1.rs` is generated from `proto/cri.proto` by `cargo xtask gen-proto`.
//! This crate must not know who implements either side.

/// Messages, clients and servers of package `runtime.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("runtime.v1.rs");
}

mod connect;
pub use connect::{ConnectError, connect};
