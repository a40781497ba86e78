//! `cargo xtask gen-proto`: turns our .proto files into the Rust that is committed beside them,
//! so that no user needs protoc.

use anyhow::Context;
use std::path::Path;

/// Generates `crates/cri/src/runtime.v1.rs`.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")?;
    let descriptors = protox::compile(["cri.proto"], [root.join("crates/cri/proto")]).context("compile cri.proto")?;
    tonic_prost_build::configure()
        .out_dir(root.join("crates/cri/src"))
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .context("generate Rust from cri.proto")
}
