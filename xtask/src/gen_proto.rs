//! `cargo xtask gen-proto`: turns our .proto files into the Rust that is committed beside them,
//! so that no user needs protoc.

use anyhow::Context;
use std::path::Path;

/// Generates `crates/cri/src/runtime.v1.rs`, `crates/csi/src/*.rs` and `crates/store-etcd/src/etcdserverpb.rs`.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")?;
    let generate = |crate_name: &str, file: &str, server: bool| {
        let folder = root.join("crates").join(crate_name);
        let descriptors = protox::compile([file], [folder.join("proto")]).with_context(|| format!("compile {file}"))?;
        tonic_prost_build::configure()
            .build_server(server)
            .out_dir(folder.join("src"))
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)
            .with_context(|| format!("generate Rust from {file}"))
    };
    generate("cri", "cri.proto", true)?;
    generate("csi", "csi.proto", true)?;
    generate("csi", "pluginregistration.proto", true)?;
    generate("store-etcd", "etcd.proto", false)
}
