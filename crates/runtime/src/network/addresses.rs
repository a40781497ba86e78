//! Hands out pod addresses: ascending, and none again before all others had their turn.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use super::{NetworkError, Ranges, system};
use crate::disk;

/// The allocator. Sandboxes' own records say which addresses are in use after a restart; the file says where to go on.
pub(crate) struct Addresses {
    ranges: Ranges,
    file: PathBuf,
    state: Mutex<State>,
}

/// Addresses by their places in the ranges.
struct State {
    last: u32,
    used: BTreeSet<u32>,
}

impl Addresses {
    /// Goes on after the last address handed out, knowing those in use.
    pub(crate) fn open(
        ranges: Ranges,
        file: PathBuf,
        used: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, NetworkError> {
        let last: Option<IpAddr> = disk::read_json(&file).map_err(system(format!("read {}", file.display())))?;
        let last = last.and_then(|last| ranges.place(last)).unwrap_or_default();
        let used = used.into_iter().filter_map(|address| ranges.place(address)).collect();
        Ok(Self {
            ranges,
            file,
            state: Mutex::new(State { last, used }),
        })
    }

    /// The next free addresses, one of each range; in use until [`Addresses::release`].
    pub(crate) fn take(&self) -> Result<Vec<IpAddr>, NetworkError> {
        let none = || NetworkError::NoAddress {
            ranges: self.ranges.to_string(),
        };
        let mut state = self.state.lock().expect("no holder panics");
        let (first, end) = self.ranges.places();
        if first >= end {
            return Err(none());
        }
        let from = state.last.saturating_add(1).clamp(first, end);
        let mut order = (from..end).chain(first..from);
        let place = order.find(|place| !state.used.contains(place)).ok_or_else(none)?;
        let addresses = self.ranges.at(place);
        state.last = place;
        state.used.insert(place);
        // Losing this in a power cut is harmless: so are the neighbours' memories lost.
        disk::replace_json(&self.file, &addresses.first()).map_err(system(format!("write {}", self.file.display())))?;
        Ok(addresses)
    }

    /// The addresses are free again.
    pub(crate) fn release(&self, addresses: &[IpAddr]) {
        let mut state = self.state.lock().expect("no holder panics");
        for place in addresses.iter().filter_map(|address| self.ranges.place(*address)) {
            state.used.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[&str], address: impl Fn(u32) -> String) {
        let folder = tempfile::tempdir().expect("a folder");
        let ranges: Vec<_> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let parse = |text: String| text.parse::<IpAddr>().expect("an address");
        let open = |used: &[u32]| {
            let used = used.iter().map(|place| parse(address(*place)));
            Addresses::open(Ranges::new(&ranges), folder.path().join("last"), used).expect("opened")
        };
        let addresses = open(&[]);
        let take = |addresses: &Addresses| addresses.take().expect("free")[0].to_string();
        assert_eq!(take(&addresses), address(2));
        assert_eq!(take(&addresses), address(3));
        addresses.release(&[parse(address(2))]);
        let addresses = open(&[3]);
        for expected in [4, 5, 6, 2] {
            assert_eq!(take(&addresses), address(expected));
        }
        assert!(matches!(addresses.take(), Err(NetworkError::NoAddress { .. })));
    }

    #[test]
    fn addresses_ascend_and_wrap() {
        check(&["10.9.0.0/29"], |place| format!("10.9.0.{place}"));
        check(&["10.9.0.0/29", "fd00:9::/64"], |place| format!("10.9.0.{place}"));
        check(&["fd00:9::/125"], |place| format!("fd00:9::{place:x}"));
    }

    #[test]
    fn an_address_of_either_family_keeps_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let ranges = ["10.9.0.0/29", "fd00:9::/64"].map(|range| range.parse().expect("a range"));
        let six: IpAddr = "fd00:9::2".parse().expect("an address");
        let addresses = Addresses::open(Ranges::new(&ranges), folder.path().join("last"), [six]).expect("opened");
        let taken = addresses.take().expect("free");
        assert_eq!(
            taken.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            ["10.9.0.3", "fd00:9::3"]
        );
    }
}
