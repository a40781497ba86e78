//! An API server for trying things out: objects in memory, certificates made on the spot.
//!
//! `cargo run -p apiserver --example dev -- KUBECONFIG [PORT]` serves on loopback until it gets ctrl-c and writes the
//! kubeconfig of an administrator to the given path.

#[path = "../tests/support/authority.rs"]
mod authority;

use anyhow::Context;
use apiserver::{ApiServer, Config};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let kubeconfig = args.next().context("usage: dev KUBECONFIG [PORT]")?;
    let port: u16 = args
        .next()
        .map_or(Ok(0), |port| port.parse())
        .context("the port is not a number")?;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((ip, port)).await.context("cannot listen")?;
    let address = listener.local_addr()?;
    let authority = authority::Authority::new()?;
    let config = Config {
        advertise: address,
        kubelet_client: Some(Arc::new(
            authority.client("kube-apiserver-kubelet-client", "system:masters")?,
        )),
        ..Config::default()
    };
    let server = ApiServer::new(Arc::new(MemoryStore::new()), config).await?;
    std::fs::write(&kubeconfig, authority.kubeconfig(address, "admin", "system:masters")?)
        .with_context(|| format!("cannot write {kubeconfig}"))?;
    println!("serving on https://{address}\nexport KUBECONFIG={kubeconfig}");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // Without signals there is no other way to stop than to be killed.
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    apiserver::serve(listener, Arc::new(authority.server(ip)?), server.router(), shutdown).await?;
    Ok(())
}
