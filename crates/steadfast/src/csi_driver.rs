//! `steadfast csi-local`: the CSI driver of local disks, alone.

use crate::args::CsiLocalArgs;
use crate::config::host_name;
use crate::health;
use crate::services::DEFAULT_LOG;
use crate::up::Signals;
use anyhow::bail;
use csi_local::{Config, DRIVER};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Runs until told to stop.
///
/// # Errors
/// When the options make no sense, or the directory or a socket cannot be used.
pub(crate) async fn run(args: CsiLocalArgs) -> anyhow::Result<ExitCode> {
    health::start_log(args.log.as_deref().unwrap_or(DEFAULT_LOG))?;
    if !nix::unistd::geteuid().is_root() {
        bail!("mounting volumes needs root: use sudo");
    }
    let config = Config {
        socket: csi::path_of(&args.endpoint)?,
        data_dir: args.data_dir,
        node_id: args.node_id.map_or_else(host_name, Ok)?,
        registration: args.registration_dir.map(|dir| dir.join(format!("{DRIVER}-reg.sock"))),
    };
    tracing::info!(socket = %config.socket.display(), node = config.node_id, "serves {DRIVER}");
    let shutdown = CancellationToken::new();
    let serving = csi_local::serve(config, shutdown.clone());
    tokio::pin!(serving);
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = &mut serving => ended?,
        _ = signals.next() => {
            shutdown.cancel();
            serving.await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
