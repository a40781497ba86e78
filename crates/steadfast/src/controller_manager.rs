//! `steadfast controllers`: the controllers alone, as a client of any Kubernetes API server.

use crate::args::ControllersArgs;
use crate::cluster::Cluster;
use crate::config::host_name;
use crate::feature_gates::FeatureGates;
use crate::health;
use crate::services::DEFAULT_LOG;
use crate::up::Signals;
use anyhow::{Context, bail};
use controllers::{Config, Signer};
use leader_election::{Candidate, identity};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs until told to stop.
///
/// # Errors
/// When the options make no sense, the cluster's address is not known, or a controller breaks.
pub(crate) async fn run(args: ControllersArgs) -> anyhow::Result<ExitCode> {
    health::start_log(args.log.as_deref().unwrap_or(DEFAULT_LOG))?;
    let config = config(&args)?;
    let client = Cluster::open(args.kubeconfig.as_deref(), None).await?.client;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(listen = %listener.local_addr()?, "serves /healthz and /metrics");
    let shutdown = CancellationToken::new();
    let (metrics, stop) = (config.metrics.clone(), shutdown.clone());
    let served = tokio::spawn(async move {
        axum::serve(listener, health::router(|| true, move || metrics.text()))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    });
    let (mut signals, stop) = (Signals::new()?, shutdown.clone());
    let signals = tokio::spawn(async move {
        signals.next().await;
        stop.cancel();
    });
    let outcome = if args.leader_elect {
        let host = host_name()?;
        let mut election = leader_election::Config::new(&args.leader_elect_resource_name, &identity(&host));
        election.namespace = args.leader_elect_resource_namespace;
        let candidate = Candidate::new(client.clone(), election)?;
        let work = |leading| controllers::run(client.clone(), config.clone(), leading);
        candidate.run(shutdown.clone(), work).await.map(drop)
    } else {
        controllers::run(client, config, shutdown.clone()).await
    };
    shutdown.cancel();
    signals.abort();
    outcome?;
    served.await?.context("the listener of /metrics failed")?;
    Ok(ExitCode::SUCCESS)
}

fn config(args: &ControllersArgs) -> anyhow::Result<Config> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let signer = match (&args.cluster_signing_cert_file, &args.cluster_signing_key_file) {
        (Some(certificate), Some(key)) => {
            let signer = Signer::from_pem(&read(certificate)?, &read(key)?);
            Some(signer.with_context(|| format!("{} cannot sign", certificate.display()))?)
        }
        _ => None,
    };
    let mut errors = Vec::new();
    let gates = FeatureGates::parse(args.feature_gates.as_deref().unwrap_or_default(), &mut errors);
    let config = Config {
        controllers: args.controllers.clone(),
        gates: gates.of_controllers(),
        root_ca: args.root_ca_file.as_ref().map(read).transpose()?,
        signer,
        ..Config::default()
    };
    let unknown = config.unknown_controllers();
    errors.extend(unknown.iter().map(|name| format!("no controller is called {name}")));
    if !errors.is_empty() {
        bail!("{}", errors.join("; "));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn parse(options: &[&str]) -> ControllersArgs {
        let words = ["steadfast", "controllers"].iter().chain(options);
        match Args::try_parse_from(words).unwrap().command {
            Command::Controllers(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn controllers_are_chosen_by_name_and_the_leader_elected_unless_told_otherwise() {
        let args = parse(&[]);
        assert!(args.leader_elect);
        assert_eq!(args.controllers, ["*"]);
        let args = parse(&["--controllers=*,-podgc", "--leader-elect=false"]);
        assert!(!args.leader_elect);
        let config = config(&args).unwrap();
        assert!(config.is_enabled("job-controller") && !config.is_enabled("pod-garbage-collector-controller"));
        assert!(parse(&["--leader-elect"]).leader_elect);
        assert!(config.is_enabled("csrcleaner") && config.signer.is_none());
        let error = self::config(&parse(&["--controllers=statefulset,nobody"])).unwrap_err();
        assert_eq!(error.to_string(), "no controller is called nobody");
    }
    #[test]
    fn certificates_are_signed_with_an_authority_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        crate::pki::Authority::open(dir.path()).unwrap();
        let option =
            |name: &str, file: &str| format!("--cluster-signing-{name}-file={}", dir.path().join(file).display());
        let args = parse(&[&option("cert", "ca.crt"), &option("key", "ca.key")]);
        assert!(config(&args).unwrap().signer.is_some());
        let alone = ["steadfast", "controllers", &option("cert", "ca.crt")];
        assert!(Args::try_parse_from(alone).is_err());
        let args = parse(&[&option("cert", "ca.crt"), &option("key", "ca.crt")]);
        let error = format!("{:#}", config(&args).unwrap_err());
        assert!(error.contains("ca.crt cannot sign"), "{error}");
    }
}
