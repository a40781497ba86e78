//! What the kernel must be told so that packets of pods go through this machine.

use std::fs;
use std::path::Path;

use super::{NetworkError, system};

/// Packets of pods go on to where they are meant for.
pub(super) fn turn_on_four() -> Result<(), NetworkError> {
    turn_on(Path::new("/proc/sys/net/ipv4/ip_forward"))
}

/// The same for IPv6, where it is more: a machine that forwards does not listen to routers any more, and loses the
/// routes it has from them, unless told to go on.
pub(super) fn turn_on_six(bridge: &str) -> Result<(), NetworkError> {
    let settings = Path::new("/proc/sys/net/ipv6/conf");
    let forwarding = settings.join("all/forwarding");
    if !is(&forwarding, "1") {
        keep_listening(settings, bridge)?;
    }
    turn_on(&forwarding)
}

/// Pods are no routers, so nothing that they say about routes is believed on the bridge.
pub(super) fn ready_bridge(bridge: &str) -> Result<(), NetworkError> {
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(bridge);
    for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")] {
        write(&settings.join(name), value)?;
    }
    Ok(())
}

/// For 127.0.0.1:hostPort; that nobody else gets at what listens there, our rules see to.
pub(super) fn allow_loopback(bridge: &str) -> Result<(), NetworkError> {
    write(
        Path::new(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")),
        "1",
    )
}

fn keep_listening(settings: &Path, bridge: &str) -> Result<(), NetworkError> {
    let links = fs::read_dir(settings).map_err(system(format!("read {}", settings.display())))?;
    for link in links.filter_map(Result::ok) {
        // "default" is what links begin with that are not there yet, the other ends of pods' among them.
        let is_own = ["all", "default", "lo", bridge]
            .iter()
            .any(|name| link.file_name() == *name);
        let accept = link.path().join("accept_ra");
        if !is_own && is(&accept, "1") {
            write(&accept, "2")?;
        }
    }
    Ok(())
}

fn is(setting: &Path, value: &str) -> bool {
    fs::read_to_string(setting).is_ok_and(|text| text.trim() == value)
}

fn turn_on(setting: &Path) -> Result<(), NetworkError> {
    // It may be read-only and right.
    if is(setting, "1") { Ok(()) } else { write(setting, "1") }
}

fn write(setting: &Path, value: &str) -> Result<(), NetworkError> {
    fs::write(setting, value).map_err(system(format!("write {value} to {}", setting.display())))
}
