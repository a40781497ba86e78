//! All records by name. A change of one Service touches only that Service's names.
//!
//! A name exists if it or a name below it has a record; so `default.svc.cluster.local` exists (and holds nothing),
//! while the name of a Service without ready endpoints does not.

use crate::records::{self, Data, Record};
use service_watch::Key;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

#[derive(Debug, Default)]
struct Node {
    data: Vec<Data>,
    /// Records of this name and of all names below.
    below: usize,
}

/// Where a name was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// It is not ours to say.
    Outside,
    /// It is ours and does not exist.
    Missing,
    /// It exists; perhaps only because of names below it.
    Here(Cow<'a, [Data]>),
}

/// The records of a cluster.
#[derive(Debug)]
pub(crate) struct Zone {
    domain: String,
    nodes: HashMap<String, Node>,
    by_service: HashMap<Key, Vec<Record>>,
    /// Names that are asked about with every denial.
    server: String,
    contact: String,
    serial: u32,
}

impl Zone {
    /// A zone with the records that are always there; `servers` are the addresses of the DNS server itself.
    /// Each change raises the serial number by one.
    pub(crate) fn new(domain: &str, servers: &[IpAddr], serial: u32) -> Self {
        let mut zone = Self {
            domain: domain.to_owned(),
            nodes: HashMap::new(),
            by_service: HashMap::new(),
            server: records::server_name(domain),
            contact: format!("hostmaster.{domain}"),
            serial,
        };
        for record in records::of_domain(domain, servers) {
            zone.add(&record);
        }
        for parent in ["svc", "pod"] {
            zone.nodes.entry(format!("{parent}.{domain}")).or_default().below += 1;
        }
        zone
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// The name of the server itself.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Who is responsible, as the SOA record writes a mail address.
    pub(crate) fn contact(&self) -> &str {
        &self.contact
    }

    /// The number of this state of the records.
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Puts the records of a Service in the place of those it had.
    pub(crate) fn replace(&mut self, key: &Key, records: Vec<Record>) {
        let old = self.by_service.remove(key).unwrap_or_default();
        if old == records {
            if !old.is_empty() {
                self.by_service.insert(key.clone(), old);
            }
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        for record in &old {
            self.remove(record);
        }
        for record in &records {
            self.add(record);
        }
        if !records.is_empty() {
            self.by_service.insert(key.clone(), records);
        }
    }

    /// Looks a name up; it is in lower case and has no dot at the end.
    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        if let Some(node) = self.nodes.get(name)
            && (!node.data.is_empty() || self.is_inside(name))
        {
            return Found::Here(Cow::Borrowed(&node.data));
        }
        // Addresses are anybody's: what we do not know of them, others may.
        if !self.is_inside(name) {
            return Found::Outside;
        }
        if name == self.domain {
            return Found::Here(Cow::Borrowed(&[]));
        }
        match records::pod_address(&self.domain, name) {
            Some(address) => Found::Here(Cow::Owned(vec![Data::Address(address)])),
            None if self.is_pod_namespace(name) => Found::Here(Cow::Borrowed(&[])),
            None => Found::Missing,
        }
    }

    /// The name is the domain or below it.
    pub(crate) fn is_inside(&self, name: &str) -> bool {
        name.strip_suffix(self.domain.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Any namespace may have pods, so its name under `pod` exists.
    fn is_pod_namespace(&self, name: &str) -> bool {
        let namespace = name
            .strip_suffix(self.domain.as_str())
            .and_then(|rest| rest.strip_suffix(".pod."));
        namespace.is_some_and(|namespace| !namespace.is_empty() && !namespace.contains('.'))
    }

    fn add(&mut self, record: &Record) {
        self.nodes
            .entry(record.name.clone())
            .or_default()
            .data
            .push(record.data.clone());
        for name in lineage(&record.name) {
            self.nodes.entry(name.to_owned()).or_default().below += 1;
        }
    }

    fn remove(&mut self, record: &Record) {
        if let Some(node) = self.nodes.get_mut(&record.name)
            && let Some(place) = node.data.iter().position(|data| *data == record.data)
        {
            node.data.remove(place);
        }
        for name in lineage(&record.name) {
            let Some(node) = self.nodes.get_mut(name) else { continue };
            node.below -= 1;
            if node.below == 0 {
                self.nodes.remove(name);
            }
        }
    }
}

/// The name and all names above it.
fn lineage(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}
