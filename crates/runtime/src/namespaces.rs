//! Namespaces that exist without a process, because a bind mount holds them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Which namespaces a sandbox has of its own.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    /// The name in a UTS namespace of its own, if it has one.
    pub(crate) hostname: Option<String>,
    pub(crate) sysctls: BTreeMap<String, String>,
}

/// The file that holds a network namespace below `folder`.
pub(crate) fn network(folder: &Path) -> PathBuf {
    folder.join("net")
}

/// The file that holds an IPC namespace below `folder`.
pub(crate) fn ipc(folder: &Path) -> PathBuf {
    folder.join("ipc")
}

/// The file that holds a UTS namespace below `folder`.
pub(crate) fn uts(folder: &Path) -> PathBuf {
    folder.join("uts")
}

/// Makes namespaces and holds them by files in `folder`.
pub(crate) fn make(folder: &Path, wanted: Wanted) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let folder = folder.to_owned();
    on_a_thread(move || {
        let mut flags = CloneFlags::empty();
        flags.set(CloneFlags::CLONE_NEWNET, wanted.network);
        flags.set(CloneFlags::CLONE_NEWIPC, wanted.ipc);
        flags.set(CloneFlags::CLONE_NEWUTS, wanted.hostname.is_some());
        unshare(flags)?;
        if let Some(hostname) = &wanted.hostname {
            nix::unistd::sethostname(hostname)?;
        }
        for (name, value) in &wanted.sysctls {
            set_sysctl(name, value)?;
        }
        for (make, name, path) in [
            (wanted.network, "net", network(&folder)),
            (wanted.ipc, "ipc", ipc(&folder)),
            (wanted.hostname.is_some(), "uts", uts(&folder)),
        ] {
            if make {
                File::create(&path)?;
                let own = Path::new("/proc/thread-self/ns").join(name);
                mount(Some(&own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
        }
        Ok(())
    })
}

/// Sets a kernel parameter of the namespaces the calling thread is in.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot set sysctl {name}={value}: {error}")))
}

/// Whether a sysctl belongs to a namespace that a sandbox has of its own.
///
/// # Errors
/// If it would change the whole machine; the text says which.
pub(crate) fn check_sysctl(name: &str, network: bool, ipc: bool) -> Result<(), String> {
    let of_network = name.starts_with("net.");
    let of_ipc = name.starts_with("fs.mqueue.")
        || ["kernel.sem", "kernel.msg", "kernel.shm"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    let climbs = name.contains('/') || name.split('.').any(str::is_empty);
    if !climbs && ((of_network && network) || (of_ipc && ipc)) {
        return Ok(());
    }
    Err(format!(
        "sysctl {name:?} is not of a namespace that the pod has of its own"
    ))
}

/// Lets go of the namespaces held in `folder`, and removes it.
pub(crate) fn release(folder: &Path) -> io::Result<()> {
    for path in [network(folder), ipc(folder), uts(folder)] {
        unmount(&path)?;
    }
    crate::disk::remove_folder(folder)
}

/// Unmounts everything mounted at `path`; no error if nothing is, or if there is no such path.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs `work` in the network namespace held by `path`.
pub(crate) fn within_network<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(path)?;
    on_a_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Namespaces and folders belong to threads, so what changes them runs on one that ends afterwards.
pub(crate) fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn(work)?;
    thread
        .join()
        .map_err(|_| io::Error::other("the thread that changes namespaces panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sysctls_of_own_namespaces_are_allowed() {
        assert!(check_sysctl("net.core.somaxconn", true, false).is_ok());
        assert!(check_sysctl("net.core.somaxconn", false, true).is_err());
        assert!(check_sysctl("kernel.shmmax", true, true).is_ok());
        assert!(check_sysctl("kernel.panic", true, true).is_err());
        assert!(check_sysctl("net./../../x", true, true).is_err());
        assert!(check_sysctl("net..x", true, true).is_err());
    }
}
