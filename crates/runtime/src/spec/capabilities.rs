//! Which capabilities a container gets.

use cri::v1::LinuxContainerSecurityContext;

/// What every container has unless it drops it; the set that Docker chose and everyone kept.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// capabilities(7), in the order of their numbers.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The capabilities in a `CapPrm` line of /proc/self/status.
pub(crate) fn own(status: &str) -> Vec<String> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    ALL.iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// Those the container gets, of those we have ourselves.
pub(super) fn granted(security: &LinuxContainerSecurityContext, own: &[String]) -> Result<Vec<String>, String> {
    if security.privileged {
        return Ok(own.to_vec());
    }
    let asked = security.capabilities.clone().unwrap_or_default();
    let mut granted: Vec<String> = DEFAULT
        .iter()
        .filter(|name| own.iter().any(|own| own == *name))
        .map(|name| (*name).to_owned())
        .collect();
    if is_all(&asked.add_capabilities) {
        granted = own.to_vec();
    }
    if is_all(&asked.drop_capabilities) {
        granted.clear();
    }
    for name in asked
        .add_capabilities
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
    {
        let name = full_name(name)?;
        if !own.contains(&name) {
            return Err(format!(
                "capability {name} cannot be added: the runtime itself does not have it on this machine"
            ));
        }
        if !granted.contains(&name) {
            granted.push(name);
        }
    }
    for name in asked
        .drop_capabilities
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
    {
        let name = full_name(name)?;
        granted.retain(|granted| *granted != name);
    }
    Ok(granted)
}

/// Those that stay with a process that is not root.
pub(super) fn ambient(security: &LinuxContainerSecurityContext, granted: &[String]) -> Result<Vec<String>, String> {
    let asked = security
        .capabilities
        .clone()
        .unwrap_or_default()
        .add_ambient_capabilities;
    let names = asked
        .iter()
        .map(|name| full_name(name))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(names.into_iter().filter(|name| granted.contains(name)).collect())
}

fn is_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

fn full_name(name: &str) -> Result<String, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if ALL.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(format!("unknown capability {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::Capability;

    fn check(add: &[&str], drop: &[&str]) -> Result<Vec<String>, String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let capabilities = Capability {
            add_capabilities: words(add),
            drop_capabilities: words(drop),
            ..Capability::default()
        };
        let security = LinuxContainerSecurityContext {
            capabilities: Some(capabilities),
            ..LinuxContainerSecurityContext::default()
        };
        let own = own("Name:\tx\nCapPrm:\t000001fffeffffff\n");
        assert_eq!(own.len(), 40);
        granted(&security, &own)
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(check(&[], &[]).expect("fine").len(), DEFAULT.len());
        assert_eq!(check(&[], &["ALL"]), Ok(vec![]));
        assert_eq!(check(&["NET_ADMIN"], &["all"]), Ok(vec!["CAP_NET_ADMIN".to_owned()]));
        assert_eq!(check(&["ALL"], &["CAP_SYS_ADMIN"]).expect("fine").len(), 39);
        assert!(!check(&[], &["kill"]).expect("fine").contains(&"CAP_KILL".to_owned()));
        assert!(
            check(&["SYS_RESOURCE"], &[])
                .expect_err("not ours")
                .contains("CAP_SYS_RESOURCE")
        );
        assert!(check(&["NOPE"], &[]).is_err());
    }
}
