//! The client that the tests have written with client-go. Debian has Go as packages, and client-go in the source of its
//! kubectl, with all that it depends on; so nothing comes from anywhere else.

use crate::{debian, shell};
use anyhow::Context;
use std::path::PathBuf;
use std::process::Command;

/// Builds `crates/conformance/tests/client.go`: a minute when it is built first.
///
/// # Errors
/// When Debian's packages cannot be had, or the client does not compile.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let go = debian::unpack("golang", &["golang-1.19-go", "golang-1.19-src"])?.join("usr/lib/go-1.19");
    let path = shell::target().join("debian/gopath");
    let kubernetes = path.join("src/k8s.io/kubernetes");
    debian::unpack_source("kubernetes", &kubernetes)?;
    // It lies among the sources, because what they depend on is found from there only.
    let package = kubernetes.join("cmd/steadfast-client");
    std::fs::create_dir_all(&package)?;
    let client = shell::root().join("crates/conformance/tests/client.go");
    std::fs::copy(&client, package.join("main.go")).with_context(|| client.display().to_string())?;
    let program = shell::target().join("go-client");
    shell::run(
        Command::new(go.join("bin/go"))
            .current_dir(&kubernetes)
            .env("GOROOT", &go)
            .env("GOPATH", &path)
            .env("GOCACHE", shell::target().join("debian/go-cache"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "-buildvcs=false")
            .env("CGO_ENABLED", "0")
            .args(["build", "-o"])
            .arg(&program)
            .arg("./cmd/steadfast-client"),
    )?;
    Ok(program)
}
