//! `steadfast snapshot save`, `snapshot restore` and `check`: copies of all objects, and whether their store is sound.
//!
//! A running daemon has the store for itself, so it hands out snapshots on a socket in the store's folder, which only its
//! owner can reach. Objects in etcd are saved with etcd's own means.

use crate::args::{CheckArgs, ConfigArgs, SnapshotArgs, SnapshotCommand};
use crate::config::Config;
use crate::daemon;
use anyhow::{Context, bail};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use store::index::Loaded;
use store_embedded::{EmbeddedStore, OpenError, snapshot};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the other side may take for the next piece.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

fn socket(store: &Path) -> PathBuf {
    store.join("snapshot.sock")
}

/// Where the configuration says that objects are kept.
pub(crate) fn store_dir(config: &Config) -> PathBuf {
    config.data_dir.join("store")
}

/// `steadfast snapshot`.
///
/// # Errors
/// When the store or the file cannot be used; then neither has changed.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        SnapshotCommand::Save { config, file } => save(&embedded(config)?, file),
        SnapshotCommand::Restore { config, file } => restore(&embedded(config)?, file),
    }
}

/// `steadfast check`.
///
/// # Errors
/// When the store is damaged, or cannot be looked at.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.snapshot {
        println!("{} is sound: {}", file.display(), told(&read(file)?));
        return Ok(ExitCode::SUCCESS);
    }
    let config = embedded(&args.config)?;
    let dir = store_dir(&config);
    let contents = match EmbeddedStore::check(&dir) {
        Err(error) if is_in_use(&error) => {
            bail!(
                "a daemon uses {}: stop it first, or `steadfast snapshot save FILE`, which takes what it holds in memory",
                dir.display()
            )
        }
        checked => checked.with_context(|| format!("{} is not sound", dir.display()))?,
    };
    println!("{} is sound: {}", dir.display(), told(&contents));
    Ok(ExitCode::SUCCESS)
}

fn told(contents: &Loaded) -> String {
    let bytes: usize = contents.keys.iter().map(|kv| kv.value.len()).sum();
    let (keys, revision) = (contents.keys.len(), contents.revision);
    format!("{keys} keys, {} KiB, revision {revision}", bytes.div_ceil(1024))
}

/// The configuration that the daemon last ran with, if it keeps objects itself.
fn embedded(args: &ConfigArgs) -> anyhow::Result<Config> {
    let config = Config::resolve_last(args)?;
    if config.etcd.is_some() {
        bail!("objects are kept in etcd: use `etcdctl snapshot save` and `etcdctl snapshot restore`");
    }
    Ok(config)
}

fn is_in_use(error: &store::Error) -> bool {
    let store::Error::Storage(source) = error else {
        return false;
    };
    matches!(source.downcast_ref(), Some(OpenError::InUse { .. }))
}

fn save(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let dir = store_dir(config);
    if !dir.exists() {
        bail!(
            "there are no objects in {}: name the right --data-dir",
            config.data_dir.display()
        );
    }
    let contents = match EmbeddedStore::open(&dir) {
        Ok(store) => store.contents(),
        Err(error) if is_in_use(&error) => of_daemon(&dir)?,
        Err(error) => return Err(error).context("cannot open the store"),
    };
    // There completely or not at all, and not for everybody's eyes: it holds Secrets.
    let new = file.with_extension("part");
    let mut options = File::options();
    let out = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    let out = out.with_context(|| format!("cannot write {}", new.display()))?;
    snapshot::write(&contents, &out).with_context(|| format!("cannot write {}", new.display()))?;
    out.sync_all()?;
    std::fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("saved {} to {}", told(&contents), file.display());
    Ok(ExitCode::SUCCESS)
}

fn of_daemon(store: &Path) -> anyhow::Result<Loaded> {
    let stream = UnixStream::connect(socket(store)).context("the daemon hands out no snapshot")?;
    stream.set_read_timeout(Some(PIECE_LIMIT))?;
    snapshot::read(stream).context("the daemon's snapshot did not arrive")
}

fn read(file: &Path) -> anyhow::Result<Loaded> {
    let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    snapshot::read(input).with_context(|| file.display().to_string())
}

fn restore(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let contents = read(file)?;
    std::fs::create_dir_all(&config.data_dir)?;
    let _lock = daemon::lock(&config.data_dir)?;
    let told = told(&contents);
    let kept = EmbeddedStore::restore(&store_dir(config), contents)?;
    println!("restored {told}");
    if let Some(kept) = kept {
        println!(
            "what was there before is kept in {}: remove it when it is not needed",
            kept.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands out snapshots to whoever may enter the store's folder, until shutdown.
///
/// # Errors
/// Never: without the socket, snapshots are made when the daemon is stopped.
pub(crate) async fn serve(store: Arc<EmbeddedStore>, dir: PathBuf, shutdown: CancellationToken) -> anyhow::Result<()> {
    let path = socket(&dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove an old socket");
        }
        _ => {}
    }
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no snapshots while the daemon runs");
            shutdown.cancelled().await;
            return Ok(());
        }
    };
    let mut sending = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = sending.join_next(), if !sending.is_empty() => {}
            Ok((stream, _)) = listener.accept() => {
                let store = store.clone();
                sending.spawn_blocking(move || {
                    if let Err(error) = send(&store, stream) {
                        tracing::warn!(%error, "a snapshot was not sent");
                    }
                });
            }
        }
    }
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, "the socket is gone already");
    }
    Ok(())
}

fn send(store: &EmbeddedStore, stream: tokio::net::UnixStream) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PIECE_LIMIT))?;
    snapshot::write(&store.contents(), stream)
}
