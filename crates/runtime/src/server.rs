//! Starting and ending the CRI server.

mod image_service;
mod runtime_service;
mod select;
mod stats;

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::v1::image_service_server::ImageServiceServer;
use cri::v1::runtime_service_server::RuntimeServiceServer;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::network::{Addresses, Ranges};
use crate::recover::{self, Fragments};
use crate::spec::{self, Machine};
use crate::state::{Parts, Runtime, network_of};
use crate::streaming::{self, Streaming};
use crate::{Config, Error, images};

/// A message of CRI may be large: lists of everything.
const MESSAGE_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What answers calls.
#[derive(Clone)]
struct Service(Arc<Runtime>);

/// How long calls in progress may take after the end was asked for. Nothing is lost by breaking them off.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

fn at(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let action = format!("{action} {}", path.display());
    move |source| Error::System { action, source }
}

/// Serves CRI on `config.socket` until `shutdown` is cancelled; containers go on after it.
///
/// # Errors
/// If another server uses the same folders, or the folders, the bridge or the socket cannot be set up.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let _lock = lock(&config)?;
    let socket = config.socket.clone();
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(at("listen for streams on", Path::new("127.0.0.1")))?;
    let address = streams
        .local_addr()
        .map_err(at("listen for streams on", Path::new("127.0.0.1")))?;
    let (runtime, fragments) = build(config, Streaming::new(address), shutdown.clone())?;
    let connected = runtime.all_sandboxes().into_iter();
    let connected = connected.filter(|sandbox| sandbox.record().phase == crate::sandbox::Phase::Ready);
    let ports: Vec<_> = connected.flat_map(|sandbox| sandbox.host_ports()).collect();
    runtime.network.set_up(&ports).await?;
    runtime.recover(fragments).await;
    let listener = bind(&socket)?;
    let tasks = runtime.tasks.clone();
    tasks.spawn({
        let runtime = Arc::clone(&runtime);
        async move {
            if let Err(error) = streaming::serve(runtime, streams).await {
                tracing::error!(%error, "streams are not served any more");
            }
        }
    });
    let server = tonic::transport::Server::builder()
        .add_service(
            RuntimeServiceServer::new(Service(Arc::clone(&runtime))).max_decoding_message_size(MESSAGE_SIZE_BYTES_MAX),
        )
        .add_service(ImageServiceServer::new(Service(runtime)).max_decoding_message_size(MESSAGE_SIZE_BYTES_MAX))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.clone().cancelled_owned());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    let served = tokio::select! {
        served = server => served,
        () = late => Ok(()),
    };
    shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, tasks.wait()).await.is_err() {
        tracing::info!("calls that take longer are left unfinished; the next start clears up after them");
    }
    crate::disk::remove_file(&socket).map_err(at("remove", &socket))?;
    served.map_err(|source| Error::Serve { path: socket, source })
}

/// Only one server may own a root.
pub(crate) fn lock(config: &Config) -> Result<Flock<File>, Error> {
    for folder in [&config.root, &config.state] {
        fs::create_dir_all(folder).map_err(at("make", folder))?;
        // Images and logs are nobody's business but root's.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(at("protect", folder))?;
    }
    let path = config.root.join("runtime.lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| Error::InUse {
        root: config.root.clone(),
        source: errno.into(),
    })
}

/// Reads what is on disk.
pub(crate) fn build(
    config: Config,
    streaming: Streaming,
    shutdown: CancellationToken,
) -> Result<(Arc<Runtime>, Fragments), Error> {
    let root = config.root.clone();
    let found = recover::find(&config).map_err(at("read the records in", &root))?;
    let records = found.sandboxes.values().map(|sandbox| sandbox.record());
    let used = records
        .filter(|record| record.phase != crate::sandbox::Phase::Stopped)
        .flat_map(|record| record.addresses());
    let ranges = Ranges::new(&config.pod_cidrs);
    let addresses = Addresses::open(ranges, root.join("last-address.json"), used)?;
    let runtime = Runtime::new(Parts {
        addresses,
        images: images::Store::open(&root)?,
        machine: machine(),
        streaming,
        shutdown,
        sandboxes: found.sandboxes,
        containers: found.containers,
        config,
    });
    Ok((runtime, found.fragments))
}

fn bind(path: &Path) -> Result<UnixListener, Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at("make", parent))?;
    }
    // We hold the lock, so whoever bound it before is gone.
    crate::disk::remove_file(path).map_err(at("remove", path))?;
    let listener = UnixListener::bind(path).map_err(|source| Error::Bind {
        path: path.to_owned(),
        source,
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at("protect", path))?;
    Ok(listener)
}

/// What this machine and this process allow.
fn machine() -> Machine {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = spec::own_capabilities(&status);
    let own_score = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let may_lower = capabilities.iter().any(|name| name == "CAP_SYS_RESOURCE");
    let cgroup_v2 = crate::cgroup::is_unified();
    Machine {
        cgroup_v2,
        swap_limit: cgroup_v2 || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
        oom_score_adj_min: if may_lower { -1000 } else { own_score },
        capabilities,
        devices: spec::host_devices(),
    }
}

/// Removes everything a runtime with this configuration has made: containers, mounts, namespaces, the bridge, the nft
/// table, and its files below `root` and `state`. The server must have ended.
///
/// # Errors
/// If the server still runs, or something resists.
pub async fn remove_all(config: &Config) -> Result<(), Error> {
    let lock = lock(config)?;
    let nowhere = Streaming::new((Ipv4Addr::LOCALHOST, 0).into());
    let (runtime, fragments) = build(config.clone(), nowhere, CancellationToken::new())?;
    runtime.recover(fragments).await;
    for sandbox in runtime.all_sandboxes() {
        runtime.remove_sandbox(&sandbox).await.map_err(|status| Error::Remove {
            what: format!("pod sandbox {}", sandbox.id),
            source: Box::new(status),
        })?;
    }
    runtime.shutdown.cancel();
    runtime.tasks.close();
    runtime.tasks.wait().await;
    network_of(config).tear_down().await?;
    crate::cgroup::Cgroup::new(&config.cgroup_parent).remove();
    for name in ["containers", "sandboxes", "images"] {
        let path = config.root.join(name);
        crate::disk::remove_folder(&path).map_err(at("remove", &path))?;
    }
    for name in ["boot", "last-address.json", "runtime.lock"] {
        let path = config.root.join(name);
        crate::disk::remove_file(&path).map_err(at("remove", &path))?;
    }
    drop(lock);
    crate::disk::remove_folder(&config.state).map_err(at("remove", &config.state))?;
    // Others may keep files there too.
    fs::remove_dir(&config.root).unwrap_or_default();
    Ok(())
}
