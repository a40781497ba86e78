//! Files of a sandbox that its containers see: names, resolver, shared memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::DnsConfig;
use nix::mount::{MsFlags, mount};

use super::Sandbox;
use crate::disk;
use crate::spec::SandboxFiles;

/// As Docker and containerd have it.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// Where they are.
pub(super) fn of(folder: &Path, host_ipc: bool) -> SandboxFiles {
    SandboxFiles {
        resolv_conf: folder.join("resolv.conf"),
        hostname: folder.join("hostname"),
        hosts: folder.join("hosts"),
        shm: if host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            shm(folder)
        },
    }
}

/// Where the shared memory of a sandbox with its own IPC namespace is mounted.
pub(crate) fn shm(folder: &Path) -> PathBuf {
    folder.join("shm")
}

/// Writes and mounts them.
pub(super) fn make(sandbox: &Sandbox) -> io::Result<()> {
    let files = sandbox.files();
    let resolver = match &sandbox.config.dns_config {
        Some(dns) => resolv_conf(dns),
        None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    disk::replace_mode(&files.resolv_conf, resolver.as_bytes(), 0o644)?;
    let (hostname, hosts) = match sandbox.own_hostname() {
        Some(hostname) => {
            let addresses = sandbox.record().addresses().into_iter();
            let own: String = addresses.map(|address| format!("{address}\t{hostname}\n")).collect();
            let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}");
            (format!("{hostname}\n"), hosts)
        }
        None => (
            fs::read_to_string("/proc/sys/kernel/hostname")?,
            fs::read_to_string("/etc/hosts").unwrap_or_default(),
        ),
    };
    disk::replace_mode(&files.hostname, hostname.as_bytes(), 0o644)?;
    disk::replace_mode(&files.hosts, hosts.as_bytes(), 0o644)?;
    if files.shm == shm(&sandbox.folder) {
        fs::create_dir_all(&files.shm)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), &files.shm, Some("tmpfs"), flags, Some(SHM_OPTIONS))?;
    }
    Ok(())
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_as_the_pod_wants_it() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let dns = DnsConfig {
            servers: words(&["10.96.0.10"]),
            searches: words(&["a.svc", "svc"]),
            options: words(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
