//! `steadfast down` and `steadfast reset`: the ways out.

use crate::args::{DownArgs, ResetArgs};
use crate::config::{Config, Runtime};
use crate::{daemon, local_disks, services};
use anyhow::{Context, bail};
use cri::v1::VersionRequest;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long our own runtime may take to serve.
const RUNTIME_LIMIT: Duration = Duration::from_secs(20);

type Serving = JoinHandle<Result<(), runtime::Error>>;

/// Stops the daemon and removes its containers; objects and volumes stay.
///
/// # Errors
/// When the daemon does not stop or a container cannot be removed.
pub(crate) async fn down(args: DownArgs) -> anyhow::Result<ExitCode> {
    let config = Config::resolve_last(&args.config)?;
    if !daemon::is_data_dir(&config.data_dir) {
        bail!(
            "{} is no data directory of Steadfast: name it with --data-dir",
            config.data_dir.display()
        );
    }
    let _lock = daemon::stop(&config.data_dir).await?;
    remove_containers(&config).await?;
    println!(
        "All containers are stopped and removed. Objects and volumes are kept in {}.",
        config.data_dir.display()
    );
    println!("`steadfast up` brings them back; `steadfast reset` removes them for good.");
    Ok(ExitCode::SUCCESS)
}

/// Removes everything, after asking.
///
/// # Errors
/// When something cannot be removed; running it again goes on.
pub(crate) async fn reset(args: ResetArgs) -> anyhow::Result<ExitCode> {
    let config = Config::resolve_last(&args.config)?;
    let shown = config.data_dir.display();
    if !config.data_dir.exists() {
        println!("Nothing to remove: there is no {shown}.");
        return Ok(ExitCode::SUCCESS);
    }
    // Whoever mistypes --data-dir must not lose a home directory.
    if !daemon::is_data_dir(&config.data_dir) {
        bail!("{shown} is no data directory of Steadfast, it is left alone: name the right one with --data-dir");
    }
    if !args.yes
        && !confirmed(&format!(
            "Remove all containers, objects and VOLUMES in {shown}? Type yes: "
        ))?
    {
        println!("Nothing was removed.");
        return Ok(ExitCode::FAILURE);
    }
    let _lock = daemon::stop(&config.data_dir).await?;
    remove_containers(&config).await?;
    if !config.no_node {
        if let Runtime::Embedded { .. } = config.runtime {
            runtime::remove_all(&services::runtime_config(&config)?)
                .await
                .context("cannot remove the runtime's files")?;
        }
        proxy::remove().await.context("cannot remove the rules of Services")?;
        dns::remove_link()
            .await
            .context("cannot remove the DNS server's address")?;
    }
    // Whatever is mounted there still is somebody else's: another driver's volume, or what a pod mounted.
    if let Some(mounted) = node::mounted_below(&config.data_dir)? {
        bail!(
            "{} is still mounted, so {shown} is left alone: unmount it, then reset again",
            mounted.display()
        );
    }
    if config.write_kubeconfig.exists() {
        std::fs::remove_file(&config.write_kubeconfig)
            .with_context(|| format!("cannot remove {}", config.write_kubeconfig.display()))?;
    }
    std::fs::remove_dir_all(&config.data_dir).with_context(|| format!("cannot remove {shown}"))?;
    println!("Everything in {shown} is removed.");
    Ok(ExitCode::SUCCESS)
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Removes all containers through CRI; our own runtime is started for that and stopped again.
async fn remove_containers(config: &Config) -> anyhow::Result<()> {
    if config.no_node {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("removing containers needs root: use sudo");
    }
    if let Runtime::Endpoint(endpoint) = &config.runtime
        && !Path::new(endpoint.trim_start_matches("unix://")).exists()
    {
        println!("The container runtime at {endpoint} is gone; whatever it still runs is left to it.");
        return Ok(());
    }
    // A daemon that left in the middle of a copy holds writers still, and those cannot end.
    csi_local::thaw_below(&local_disks::dir(config)).context("cannot let volumes go on")?;
    let shutdown = CancellationToken::new();
    let serving = match config.runtime {
        Runtime::Embedded { .. } => {
            let config = services::runtime_config(config)?;
            Some(tokio::spawn(runtime::serve(config, shutdown.clone())))
        }
        Runtime::Endpoint(_) => None,
    };
    wait_for_runtime(&config.runtime_endpoint(), serving.as_ref()).await?;
    let removed = node::remove_all(&config.runtime_endpoint(), &services::node_dir(config)).await;
    shutdown.cancel();
    if let Some(serving) = serving {
        serving.await?.context("the container runtime failed")?;
    }
    removed.context("cannot remove the containers")?;
    // What pods used of local disks is unmounted by now.
    csi_local::detach_below(&local_disks::dir(config)).context("cannot detach the devices of volumes")
}

/// Waits until the runtime answers.
async fn wait_for_runtime(endpoint: &str, serving: Option<&Serving>) -> anyhow::Result<()> {
    let mut client = RuntimeServiceClient::new(cri::connect(endpoint)?);
    let end = Instant::now() + RUNTIME_LIMIT;
    loop {
        match client.version(VersionRequest::default()).await {
            Ok(_) => return Ok(()),
            // Our own runtime says by itself why it ended.
            Err(_) if serving.is_some_and(Serving::is_finished) => return Ok(()),
            Err(status) if Instant::now() > end || serving.is_none() => {
                bail!("no container runtime answers at {endpoint}: {}", status.message())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
