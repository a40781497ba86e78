//! One daemon per data directory: a locked file that holds the daemon's process id.

use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take to stop after it was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The right to use a data directory; given back when dropped, also by a crash.
pub(crate) struct DaemonLock {
    // Never read: holding it open is what it is for.
    _file: File,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("daemon.lock")
}

fn open(data_dir: &Path) -> anyhow::Result<File> {
    let path = path(data_dir);
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Whether this is (or was) the data directory of a daemon.
pub(crate) fn is_data_dir(data_dir: &Path) -> bool {
    path(data_dir).exists()
}

/// Takes the data directory for this process.
///
/// # Errors
/// When another daemon has it.
pub(crate) fn lock(data_dir: &Path) -> anyhow::Result<DaemonLock> {
    let mut file = open(data_dir)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = read_pid(&mut file).unwrap_or_default();
            bail!(
                "Steadfast is running already on {} (process {pid}): stop it with Ctrl-C there or `steadfast down`, or choose another --data-dir",
                data_dir.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data directory"),
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    file.sync_all()?;
    Ok(DaemonLock { _file: file })
}

/// Stops the daemon of a data directory, if one runs, and takes the directory over.
///
/// # Errors
/// When the daemon does not stop.
pub(crate) async fn stop(data_dir: &Path) -> anyhow::Result<DaemonLock> {
    let mut file = open(data_dir)?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let pid = read_pid(&mut file).context("a daemon runs, but its process id is unknown")?;
        println!("stopping the daemon (process {pid})");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
            .with_context(|| format!("cannot stop process {pid}"))?;
        // The lock is free the moment the process is gone.
        let wait = tokio::task::spawn_blocking(move || file.lock());
        tokio::time::timeout(STOP_LIMIT, wait)
            .await
            .with_context(|| format!("the daemon (process {pid}) does not stop: end it with `kill -9 {pid}`"))???;
    } else {
        drop(file);
    }
    lock(data_dir)
}

fn read_pid(file: &mut File) -> anyhow::Result<i32> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse()?)
}
