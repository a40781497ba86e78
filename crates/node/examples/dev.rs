//! A node agent for trying things out, with an API server of its own: objects in memory, certificates made on the spot.
//!
//! `cargo run -p node --example dev -- RUNTIME_ENDPOINT ROOT_DIR KUBECONFIG [API_PORT]` runs pods whose
//! `spec.nodeName` is `dev` until it gets ctrl-c. Containers go on; run it again and it finds them (their pods, kept in
//! memory, are gone, so it ends them).

#[path = "../tests/support/authority.rs"]
mod authority;

use anyhow::Context;
use apiserver::{ApiServer, Config as ApiConfig, User};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let usage = "usage: dev RUNTIME_ENDPOINT ROOT_DIR KUBECONFIG [API_PORT]";
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().context(usage)?;
    let root = PathBuf::from(args.next().context(usage)?);
    let kubeconfig = args.next().context(usage)?;
    let port: u16 = args
        .next()
        .map_or(Ok(0), |port| port.parse())
        .context("the port is not a number")?;
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((ip, port)).await.context("cannot listen")?;
    let address = listener.local_addr()?;
    let authority = authority::Authority::new()?;
    let api_config = ApiConfig {
        advertise: address,
        kubelet_client: Some(Arc::new(
            authority.client("kube-apiserver-kubelet-client", "system:masters")?,
        )),
        ..ApiConfig::default()
    };
    let server = ApiServer::new(Arc::new(MemoryStore::new()), api_config).await?;
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
    let user = User {
        name: "system:node:dev".into(),
        uid: String::new(),
        groups: vec!["system:masters".into(), "system:nodes".into()],
        extra: std::collections::BTreeMap::new(),
    };
    let client = kube::Client::new(apiserver::in_process(server.router(), user), "default");
    let config = authority.node_config(&endpoint, &root, ip)?;
    let serve = apiserver::serve(
        listener,
        Arc::new(authority.server(ip)?),
        server.router(),
        shutdown.clone(),
    );
    let (served, ran) = tokio::join!(serve, node::run(client, config, shutdown.clone()));
    served?;
    ran
}
