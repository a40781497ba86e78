//! Runs the server: addresses, sockets, followers.

use crate::cluster::{Cluster, NO_PANIC};
use crate::handler::Handler;
use crate::link;
use crate::records::{Service, Slice};
use crate::upstream::{Forwarder, Upstream};
use crate::zone::Zone;
use anyhow::Context;
use hickory_server::Server;
use kube::Client;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a TCP client may be silent.
const TCP_PATIENCE: Duration = Duration::from_secs(10);

/// Responses that may wait for a TCP client.
const TCP_RESPONSES_MAX: usize = 32;

/// How long answers that are under way may take at the end.
const DRAIN_PATIENCE: Duration = Duration::from_millis(200);

/// How the server is to run.
#[derive(Debug)]
pub struct Config {
    /// Where to listen, on UDP and TCP. An address that the host does not have is put on a link of its own.
    pub listen: Vec<SocketAddr>,
    /// The domain of all cluster names, such as `cluster.local`.
    pub cluster_domain: String,
    /// Who answers for other names.
    pub upstream: Upstream,
    /// Told where the server listens, once it does. Until the API was read, cluster names get SERVFAIL.
    pub ready: Option<oneshot::Sender<Vec<SocketAddr>>>,
}

/// Serves until `shutdown`. The API need not be there yet.
///
/// # Errors
/// If the addresses cannot be put on the host or bound, or a socket breaks.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let own: BTreeSet<IpAddr> = config.listen.iter().map(SocketAddr::ip).collect();
    link::ensure_addresses(own.iter().copied()).await?;
    let domain = config.cluster_domain.trim_matches('.').to_ascii_lowercase();
    let servers: Vec<IpAddr> = own
        .iter()
        .copied()
        .filter(|address| !address.is_unspecified())
        .collect();
    let cluster = Arc::new(RwLock::new(Cluster::new(Zone::new(&domain, &servers))));
    let forwarder = Forwarder::new(&config.upstream, own.into_iter().collect());
    let handler = Handler {
        cluster: cluster.clone(),
        forwarder,
        turn: AtomicUsize::new(0),
    };
    let mut server = Server::new(handler);
    let mut bound = Vec::new();
    for address in config.listen {
        bound.push(
            listen(&mut server, address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?,
        );
    }
    let mut followers = JoinSet::new();
    followers.spawn(service_watch::follow(
        client,
        Service::read,
        |slice| Some(Slice::read(slice)),
        move |told| cluster.write().expect(NO_PANIC).take(told),
    ));
    tracing::info!(?bound, domain, "dns server listens");
    if let Some(ready) = config.ready {
        // Whoever asked may not care any more.
        drop(ready.send(bound));
    }
    tokio::select! {
        () = shutdown.cancelled() => {
            // Sockets close at once; a client that waits for another server is not waited for.
            drop(tokio::time::timeout(DRAIN_PATIENCE, server.shutdown_gracefully()).await);
            Ok(())
        }
        ended = server.block_until_done() => {
            ended.context("dns server stopped")?;
            anyhow::bail!("dns server stopped without a reason")
        }
        ended = followers.join_next() => {
            ended.transpose().context("following the API stopped")?;
            anyhow::bail!("following the API stopped without a reason")
        }
    }
}

/// Binds both sockets, to the same port if any port will do.
async fn listen(server: &mut Server<Handler>, address: SocketAddr) -> std::io::Result<SocketAddr> {
    let udp = UdpSocket::bind(address).await?;
    let bound = udp.local_addr()?;
    let tcp = TcpListener::bind(bound).await?;
    server.register_socket(udp);
    server.register_listener(tcp, TCP_PATIENCE, TCP_RESPONSES_MAX);
    Ok(bound)
}
