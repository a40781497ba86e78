//! Runs the server: addresses, sockets, followers.

use crate::answerer::Answerer;
use crate::cluster::{Cluster, NO_PANIC};
use crate::link;
use crate::metrics::Metrics;
use crate::records::{Service, Slice};
use crate::upstream::{Forwarder, Upstream};
use crate::zone::Zone;
use crate::{bind, tcp, udp};
use anyhow::Context;
use kube::Client;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How the server is to run.
#[derive(Debug)]
pub struct Config {
    /// Where to listen, on UDP and TCP. An address that the host does not have is put on a link of its own.
    pub listen: Vec<SocketAddr>,
    /// Where else, if that can be: at addresses that somebody else gives to the host, now or later.
    pub listen_ahead: Vec<SocketAddr>,
    /// The domain of all cluster names, such as `cluster.local`.
    pub cluster_domain: String,
    /// Who answers for other names.
    pub upstream: Upstream,
    /// What is counted.
    pub metrics: Metrics,
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
    let ahead = config.listen_ahead.iter().map(SocketAddr::ip);
    let cluster = Arc::new(RwLock::new(Cluster::new(Zone::new(&domain, &servers, serial()))));
    let answerer = Arc::new(Answerer {
        cluster: cluster.clone(),
        forwarder: Forwarder::new(&config.upstream, own.iter().copied().chain(ahead).collect()),
        metrics: config.metrics.clone(),
        turn: AtomicUsize::new(0),
    });
    let mut sockets = JoinSet::new();
    let mut bound = Vec::new();
    for address in config.listen {
        let address = listen(&mut sockets, address, &answerer)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        bound.push(address);
    }
    for address in config.listen_ahead {
        match bind::ahead(address) {
            Ok((udp, tcp)) => {
                serve(&mut sockets, udp, tcp, &answerer);
                bound.push(address);
            }
            // A machine without that family, for one; the other addresses are served all the same.
            Err(error) => tracing::warn!(%error, %address, "cannot listen there"),
        }
    }
    let metrics = config.metrics;
    let tell = move |told| {
        let mut cluster = cluster.write().expect(NO_PANIC);
        cluster.take(told);
        if cluster.is_known() {
            metrics.ready();
        }
    };
    let follow = service_watch::follow(client, Service::read, |slice| Some(Slice::read(slice)), tell);
    tracing::info!(?bound, domain, "dns server listens");
    if let Some(ready) = config.ready {
        // Whoever asked may not care any more.
        drop(ready.send(bound));
    }
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = answerer.forwarder.watch_for_loops() => anyhow::bail!("looking for loops stopped without a reason"),
        () = follow => anyhow::bail!("following the API stopped without a reason"),
        ended = sockets.join_next() => {
            ended.transpose().context("dns server stopped")?.transpose().context("dns server stopped")?;
            anyhow::bail!("dns server stopped without a reason")
        }
    }
}

/// The first serial number: a later start has a larger one, unless there were more changes than seconds.
fn serial() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs() & u64::from(u32::MAX);
    u32::try_from(seconds).expect("it was cut to 32 bits")
}

/// Binds both sockets, to the same port if any port will do.
async fn listen(
    sockets: &mut JoinSet<std::io::Result<()>>,
    address: SocketAddr,
    answerer: &Arc<Answerer>,
) -> std::io::Result<SocketAddr> {
    let udp = UdpSocket::bind(address).await?;
    let bound = udp.local_addr()?;
    let tcp = TcpListener::bind(bound).await?;
    serve(sockets, udp, tcp, answerer);
    Ok(bound)
}

fn serve(sockets: &mut JoinSet<std::io::Result<()>>, udp: UdpSocket, tcp: TcpListener, answerer: &Arc<Answerer>) {
    sockets.spawn(udp::serve(udp, answerer.clone()));
    sockets.spawn(tcp::serve(tcp, answerer.clone()));
}
