//! The container storage interface v1, and the protocol by which its plug-ins make themselves known to a node: messages,
//! client and server stubs.
//!
//! `csi.v1.rs` and `pluginregistration.rs` are generated from the files in `proto` by `cargo xtask gen-proto`.
//! This crate must not know who implements either side.

/// Messages, clients and servers of package `csi.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("csi.v1.rs");
}

/// Messages, clients and servers of package `pluginregistration` (v1).
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod registration {
    include!("pluginregistration.rs");
}

mod call;
mod socket;

pub use call::{timed, told};
pub use socket::{EndpointError, connect, listen, path_of};
