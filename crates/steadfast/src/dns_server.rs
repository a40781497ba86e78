//! `steadfast dns`: the names of a cluster's Services and pods, as a client of any Kubernetes API server.

use crate::args::DnsArgs;
use crate::cluster::Cluster;
use crate::config::check_name;
use crate::health;
use crate::services::DEFAULT_LOG;
use crate::up::Signals;
use anyhow::{Context, bail};
use dns::{Config, Metrics};
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs until told to stop.
///
/// # Errors
/// When the options make no sense, the cluster's address is not known, or a socket cannot be bound.
pub(crate) async fn run(args: DnsArgs) -> anyhow::Result<ExitCode> {
    health::start_log(args.log.as_deref().unwrap_or(DEFAULT_LOG))?;
    let config = config(&args)?;
    let client = Cluster::open(args.kubeconfig.as_deref(), None).await?.client;
    let listener = TcpListener::bind(args.metrics_listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.metrics_listen))?;
    tracing::info!(listen = %listener.local_addr()?, "serves /healthz, /readyz and /metrics");
    let (metrics, shutdown) = (config.metrics.clone(), CancellationToken::new());
    let is_ready = metrics.clone();
    let router = health::router(move || is_ready.is_ready(), move || metrics.text());
    let mut signals = Signals::new()?;
    tokio::select! {
        outcome = dns::run(client, config, shutdown.clone()) => outcome?,
        served = async { axum::serve(listener, router).await } => served.context("the listener of /metrics failed")?,
        _ = signals.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn config(args: &DnsArgs) -> anyhow::Result<Config> {
    let mut errors = Vec::new();
    check_name("--cluster-domain", &args.cluster_domain, &mut errors);
    if !errors.is_empty() {
        bail!("{}", errors.join("; "));
    }
    Ok(Config {
        listen_ahead: Vec::new(),
        listen: args.listen.clone(),
        cluster_domain: args.cluster_domain.clone(),
        upstream: args.dns_upstream.clone(),
        metrics: Metrics::default(),
        ready: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;
    use dns::Upstream;

    fn parse(options: &[&str]) -> Result<DnsArgs, clap::Error> {
        let words = ["steadfast", "dns"].iter().chain(options);
        match Args::try_parse_from(words)?.command {
            Command::Dns(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn listens_on_loopback_unless_told_otherwise() {
        let config = config(&parse(&[]).unwrap()).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(config.upstream, Upstream::File("/etc/resolv.conf".into()));
        let args = [
            "--listen=10.96.0.10:53,[fd00::a]:53",
            "--dns-upstream=192.0.2.1,[2001:db8::1]:5353",
        ];
        let config = self::config(&parse(&args).unwrap()).unwrap();
        assert_eq!(config.listen.len(), 2);
        let servers = ["192.0.2.1:53", "[2001:db8::1]:5353"].map(|server| server.parse().unwrap());
        assert_eq!(config.upstream, Upstream::Servers(servers.to_vec()));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(&["--listen=here"]).is_err());
        assert!(parse(&["--dns-upstream=192.0.2.1:x"]).is_err());
        let error = config(&parse(&["--cluster-domain=Not_A.Domain"]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("Not_A.Domain"), "{error}");
    }
}
