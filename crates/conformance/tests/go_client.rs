//! A client written with client-go, Debian's: `client.go`, which `cargo xtask test` builds.

use conformance::cluster::target;
use conformance::control_plane::ControlPlane;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn all_holds() -> anyhow::Result<()> {
    let default = target().join("go-client");
    let program = std::env::var_os("STEADFAST_GO_CLIENT").map_or(default, PathBuf::from);
    let server = ControlPlane::alone("gopher")?;
    let output = Command::new(program).env("KUBECONFIG", server.kubeconfig()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    anyhow::ensure!(output.status.success() && said.contains("all held"), "{said}");
    Ok(())
}
