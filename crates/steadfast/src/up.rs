//! `steadfast up`: everything in one process, until Ctrl-C.

use crate::args::UpArgs;
use crate::config::Config;
use crate::live::{Live, tell};
use crate::manifests::{self, Applied};
use crate::services::{self, Services};
use crate::{daemon, kubeconfig, preflight};
use anyhow::{Context, bail};
use kube::Client;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the services may take to end after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

/// How long a rollout is shown before `up -f` says that it takes long; it goes on all the same.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(600);

/// Starts everything and stays until a signal.
///
/// # Errors
/// When the machine lacks something, an address is taken, a manifest is refused, or a service fails.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let config = Config::resolve(&args.config)?;
    if args.print_config {
        print!("{}", config.to_yaml());
        return Ok(ExitCode::SUCCESS);
    }
    start_log(&config, !args.files.is_empty())?;
    preflight::check(&config)?;
    let manifests = manifests::read(&args.files)?;
    std::fs::create_dir_all(&config.data_dir).with_context(|| {
        format!(
            "cannot make {}: choose another --data-dir or use sudo",
            config.data_dir.display()
        )
    })?;
    let _lock = daemon::lock(&config.data_dir)?;
    let listener = bind(&config).await?;
    config.remember()?;
    let mut signals = Signals::new()?;
    let mut services = Services::start(&config, listener).await?;
    kubeconfig::write(
        &config.write_kubeconfig,
        config.listen,
        &services.authority,
        &services.admin,
    )?;
    // Whoever starts us waits for this line.
    tell(format_args!("ready in {:.2} s\n", started.elapsed().as_secs_f32()));
    tell(format_args!(
        "  export KUBECONFIG={}\n",
        config.write_kubeconfig.display()
    ));
    let client = services.client.clone();
    let outcome = tokio::select! {
        outcome = attend(&client, &config, &manifests) => outcome,
        failure = services.failed() => Err(failure),
        () = signals.next() => Ok(()),
    };
    stop(services, signals, config.no_node, outcome).await
}

/// Applies the manifests and shows their rollout; then waits for ever.
async fn attend(client: &Client, config: &Config, manifests: &[manifests::Manifest]) -> anyhow::Result<()> {
    if !manifests.is_empty() {
        let applied = manifests::apply(client, manifests).await?;
        for object in &applied {
            tell(format_args!("applied {}\n", object.title));
        }
        show(client, config, &applied).await?;
        tell(format_args!(
            "\nThe daemon goes on in this terminal; Ctrl-C stops it, the containers stay.\n"
        ));
    }
    std::future::pending().await
}

async fn show(client: &Client, config: &Config, applied: &[Applied]) -> anyhow::Result<()> {
    let sets = applied.iter().filter(|object| object.kind == "StatefulSet");
    let namespaces: BTreeSet<&str> = sets.clone().filter_map(|set| set.namespace.as_deref()).collect();
    for namespace in namespaces {
        let mut live = Live::open(client, namespace, &config.cluster_domain).await?;
        let names: Vec<String> = sets
            .clone()
            .filter(|s| s.namespace.as_deref() == Some(namespace))
            .map(|s| s.name.clone())
            .collect();
        // A rollout that hangs is not the daemon's end: it is shown and left to its user.
        let done = live
            .until("the rollout", ROLLOUT_LIMIT, |scene| {
                names.iter().all(|name| scene.is_rolled_out(name))
            })
            .await;
        match done {
            Ok(()) => live.screen.leave_block(),
            Err(error) => tell(format_args!("{error:#}\n")),
        }
    }
    Ok(())
}

async fn stop(
    services: Services,
    mut signals: Signals,
    no_node: bool,
    outcome: anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    if outcome.is_ok() {
        tell(format_args!(
            "\nstopping{}\n",
            if no_node { "" } else { "; containers go on" }
        ));
    }
    tokio::select! {
        ended = tokio::time::timeout(GRACE, services.stop()) => match ended {
            Ok(ended) => ended?,
            Err(_) => bail!("the services did not stop within {} s", GRACE.as_secs()),
        },
        () = signals.next() => bail!("stopped at once by a second signal"),
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "something listens on {address} already (see `ss -ltnp sport = :{}`): choose another --listen ADDR:PORT",
            address.port()
        ),
        std::io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("not allowed to listen on {address}: choose a port from 1024 up with --listen, or use sudo")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!(
                "{} is no address of this machine: choose another --listen ADDR:PORT",
                address.ip()
            )
        }
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })
}

fn start_log(config: &Config, shows_rollout: bool) -> anyhow::Result<()> {
    let quiet = shows_rollout && std::io::stdout().is_terminal();
    let filter = config
        .log
        .as_deref()
        .unwrap_or(if quiet { "error" } else { services::DEFAULT_LOG });
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is no filter such as info or info,node=debug"))?;
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
    Ok(())
}

/// Ctrl-C and a service manager's wish to stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
