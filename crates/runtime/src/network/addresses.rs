//! Hands out pod addresses: ascending, and none again before all others had their turn.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;

use ipnet::Ipv4Net;

use super::{NetworkError, system};
use crate::disk;

/// The allocator. Sandboxes' own records say which addresses are in use after a restart; the file says where to go on.
pub(crate) struct Addresses {
    cidr: Ipv4Net,
    file: PathBuf,
    state: Mutex<State>,
}

struct State {
    last: u32,
    used: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// Goes on after the last address handed out, knowing those in use.
    pub(crate) fn open(cidr: Ipv4Net, file: PathBuf, used: BTreeSet<Ipv4Addr>) -> Result<Self, NetworkError> {
        let last: Option<Ipv4Addr> = disk::read_json(&file).map_err(system(format!("read {}", file.display())))?;
        let last = last.filter(|last| cidr.contains(last)).map_or(gateway(cidr), u32::from);
        Ok(Self {
            cidr,
            file,
            state: Mutex::new(State { last, used }),
        })
    }

    /// The next free address; in use until [`Addresses::release`].
    pub(crate) fn take(&self) -> Result<Ipv4Addr, NetworkError> {
        let mut state = self.state.lock().expect("no holder panics");
        let (first, end) = (gateway(self.cidr) + 1, u32::from(self.cidr.broadcast()));
        let from = state.last.wrapping_add(1).clamp(first, end);
        let mut order = (from..end).chain(first..from).map(Ipv4Addr::from);
        let free = order.find(|address| !state.used.contains(address));
        let address = free.ok_or(NetworkError::NoAddress { cidr: self.cidr })?;
        state.last = address.into();
        state.used.insert(address);
        // Losing this in a power cut is harmless: so are the neighbours' memories lost.
        disk::replace_json(&self.file, &address).map_err(system(format!("write {}", self.file.display())))?;
        Ok(address)
    }

    /// The address is free again.
    pub(crate) fn release(&self, address: Ipv4Addr) {
        self.state.lock().expect("no holder panics").used.remove(&address);
    }
}

fn gateway(cidr: Ipv4Net) -> u32 {
    u32::from(cidr.network()) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ascend_and_wrap() {
        let folder = tempfile::tempdir().expect("a folder");
        let cidr: Ipv4Net = "10.9.0.0/29".parse().expect("a range");
        let open = |used: &[&str]| {
            let used = used.iter().map(|text| text.parse().expect("an address")).collect();
            Addresses::open(cidr, folder.path().join("last"), used).expect("opened")
        };
        let addresses = open(&[]);
        let take = || addresses.take().map(|address| address.to_string());
        assert_eq!(take().expect("free"), "10.9.0.2");
        assert_eq!(take().expect("free"), "10.9.0.3");
        addresses.release("10.9.0.2".parse().expect("an address"));
        let addresses = open(&["10.9.0.3"]);
        let take = || addresses.take().map(|address| address.to_string());
        for expected in ["10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.2"] {
            assert_eq!(take().expect("free"), expected);
        }
        assert!(matches!(take(), Err(NetworkError::NoAddress { .. })));
    }
}
