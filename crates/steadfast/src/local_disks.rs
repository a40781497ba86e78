//! The CSI driver of this node's disks within the daemon, and what gives it its work.

use crate::config::Config;
use crate::services::node_dir;
use controllers_plan::claims::LOCAL_PROVISIONER;
use csi_local::DRIVER;
use kube::Client;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Runs both until `shutdown`.
pub(crate) fn run(
    config: &Config,
    client: Client,
    shutdown: CancellationToken,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let registration = format!("plugins_registry/{DRIVER}-reg.sock");
    let driver = csi_local::Config {
        socket: config.data_dir.join("csi.sock"),
        data_dir: dir(config),
        node_id: config.node_name.clone(),
        registration: Some(node_dir(config).join(registration)),
    };
    let provisioner = csi_provisioner::Config {
        socket: driver.socket.clone(),
        node_name: config.node_name.clone(),
        other_names: vec![LOCAL_PROVISIONER.to_owned()],
    };
    async move {
        let serve = async { Ok(csi_local::serve(driver, shutdown.clone()).await?) };
        let work = csi_provisioner::run(client, provisioner, shutdown.clone());
        tokio::try_join!(serve, work)?;
        Ok(())
    }
}

/// Where the driver keeps volumes and snapshots.
pub(crate) fn dir(config: &Config) -> PathBuf {
    config.data_dir.join("csi")
}
