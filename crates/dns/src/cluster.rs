//! What the API has told so far, turned into the zone step by step.

use crate::records::{self, Key, Service, Slice};
use crate::zone::Zone;
use std::collections::{BTreeMap, HashMap};

/// An EndpointSlice's namespace and name.
pub(crate) type SliceKey = (String, String);

/// Services and EndpointSlices with the names they give.
#[derive(Debug)]
pub(crate) struct Cluster {
    zone: Zone,
    services: HashMap<Key, Service>,
    /// By Service; in order, so that the same objects always give the same records.
    slices: HashMap<Key, BTreeMap<String, Slice>>,
    /// Which Service a slice belonged to when it was seen last.
    owners: HashMap<SliceKey, Key>,
    are_services_known: bool,
    are_slices_known: bool,
}

impl Cluster {
    pub(crate) fn new(zone: Zone) -> Self {
        Self {
            zone,
            services: HashMap::new(),
            slices: HashMap::new(),
            owners: HashMap::new(),
            are_services_known: false,
            are_slices_known: false,
        }
    }

    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Everything was listed at least once; before that, a missing name means nothing.
    pub(crate) fn is_known(&self) -> bool {
        self.are_services_known && self.are_slices_known
    }

    pub(crate) fn set_service(&mut self, key: Key, service: Service) {
        self.services.insert(key.clone(), service);
        self.rebuild(&key);
    }

    pub(crate) fn remove_service(&mut self, key: &Key) {
        self.services.remove(key);
        self.rebuild(key);
    }

    pub(crate) fn set_slice(&mut self, slice_key: SliceKey, owner: Key, slice: Slice) {
        if self.owners.get(&slice_key).is_some_and(|known| *known != owner) {
            self.remove_slice(&slice_key);
        }
        self.slices
            .entry(owner.clone())
            .or_default()
            .insert(slice_key.1.clone(), slice);
        self.rebuild(&owner);
        self.owners.insert(slice_key, owner);
    }

    pub(crate) fn remove_slice(&mut self, slice_key: &SliceKey) {
        let Some(owner) = self.owners.remove(slice_key) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&owner) {
            slices.remove(&slice_key.1);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        self.rebuild(&owner);
    }

    /// All Services have been told; those for which `is_seen` does not hold are gone.
    pub(crate) fn services_are_known(&mut self, is_seen: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = self.services.keys().filter(|key| !is_seen(key)).cloned().collect();
        for key in gone {
            self.remove_service(&key);
        }
        self.are_services_known = true;
    }

    /// All EndpointSlices have been told; those for which `is_seen` does not hold are gone.
    pub(crate) fn slices_are_known(&mut self, is_seen: impl Fn(&SliceKey) -> bool) {
        let gone: Vec<SliceKey> = self.owners.keys().filter(|key| !is_seen(key)).cloned().collect();
        for key in gone {
            self.remove_slice(&key);
        }
        self.are_slices_known = true;
    }

    fn rebuild(&mut self, key: &Key) {
        let records = match self.services.get(key) {
            Some(service) => {
                let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
                records::of_service(self.zone.domain(), key, service, slices)
            }
            None => Vec::new(),
        };
        self.zone.replace(key, records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Data, Record};
    use crate::zone::Found;
    use api::k8s::api::{core::v1 as core, discovery::v1 as discovery};
    use proptest::prelude::*;
    use serde_json::json;

    const DOMAIN: &str = "cluster.local";

    #[derive(Clone, Debug)]
    enum Change {
        Service { name: u8, kind: u8 },
        NoService { name: u8 },
        Slice { slice: u8, service: u8, hosts: Vec<u8> },
        NoSlice { slice: u8 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..4u8, 0..3u8).prop_map(|(name, kind)| Change::Service { name, kind }),
            (0..4u8).prop_map(|name| Change::NoService { name }),
            (0..6u8, 0..4u8, prop::collection::vec(0..5u8, 0..4)).prop_map(|(slice, service, hosts)| Change::Slice {
                slice,
                service,
                hosts
            }),
            (0..6u8).prop_map(|slice| Change::NoSlice { slice }),
        ]
    }

    fn service(name: u8, kind: u8) -> (Key, Service) {
        let spec = match kind {
            0 => json!({"clusterIP": format!("10.96.0.{name}"), "ports": [{"name": "http", "port": 80}]}),
            1 => json!({"clusterIP": "None"}),
            _ => json!({"type": "ExternalName", "externalName": "example.com"}),
        };
        let metadata = json!({"name": format!("s{name}"), "namespace": format!("n{}", name % 2)});
        let service: core::Service = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        Service::read(&service).unwrap()
    }

    fn slice(service: u8, hosts: &[u8]) -> (Key, Slice) {
        let endpoints: Vec<_> = hosts
            .iter()
            .map(|host| json!({"addresses": [format!("10.244.0.{host}")], "hostname": format!("web-{host}")}))
            .collect();
        let labels = json!({"kubernetes.io/service-name": format!("s{service}")});
        let slice: discovery::EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "x", "namespace": format!("n{}", service % 2), "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "web", "port": 80}],
        }))
        .unwrap();
        Slice::read(&slice).unwrap()
    }

    /// All records of the present objects, made at once.
    fn all_records(cluster: &Cluster) -> Vec<Record> {
        let of_one = |(key, service): (&Key, &Service)| {
            let slices = cluster.slices.get(key).into_iter().flat_map(BTreeMap::values);
            records::of_service(DOMAIN, key, service, slices)
        };
        cluster.services.iter().flat_map(of_one).collect()
    }

    fn sorted(mut data: Vec<Data>) -> Vec<Data> {
        data.sort();
        data
    }

    proptest! {
        #[test]
        fn steps_lead_to_the_same_zone_as_all_at_once(changes in prop::collection::vec(change(), 0..60)) {
            let mut cluster = Cluster::new(Zone::new(DOMAIN, &[]));
            let mut names = std::collections::BTreeSet::new();
            for change in changes {
                match change {
                    Change::Service { name, kind } => {
                        let (key, service) = service(name, kind);
                        cluster.set_service(key, service);
                    }
                    Change::NoService { name } => cluster.remove_service(&service(name, 0).0),
                    Change::Slice { slice: number, service, hosts } => {
                        let (owner, slice) = slice(service, &hosts);
                        cluster.set_slice((owner.namespace.clone(), format!("e{number}")), owner, slice);
                    }
                    Change::NoSlice { slice } => {
                        cluster.remove_slice(&("n0".into(), format!("e{slice}")));
                    }
                }
                names.extend(all_records(&cluster).into_iter().map(|record| record.name));
            }
            let records = all_records(&cluster);
            names.extend(["n0.svc.cluster.local".to_owned(), "_tcp.s1.n1.svc.cluster.local".to_owned()]);
            for name in names {
                let here: Vec<_> = records.iter().filter(|record| record.name == name).collect();
                let below = records.iter().any(|record| record.name.ends_with(&format!(".{name}")));
                let expected = if !here.is_empty() || (below && name.ends_with(DOMAIN)) {
                    Found::Here(sorted(here.into_iter().map(|record| record.data.clone()).collect()))
                } else if name.ends_with(DOMAIN) {
                    Found::Missing
                } else {
                    Found::Outside
                };
                let found = match cluster.zone().find(&name) {
                    Found::Here(data) => Found::Here(sorted(data)),
                    found => found,
                };
                prop_assert_eq!(found, expected, "{}", name);
            }
        }
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone() {
        let mut cluster = Cluster::new(Zone::new(DOMAIN, &[]));
        let (key, headless) = service(1, 1);
        cluster.set_service(key.clone(), headless);
        let (owner, endpoints) = slice(1, &[3]);
        cluster.set_slice(("n1".into(), "e1".into()), owner, endpoints);
        assert!(!cluster.is_known());
        cluster.services_are_known(|_| true);
        cluster.slices_are_known(|_| true);
        assert!(cluster.is_known());
        assert!(matches!(
            cluster.zone().find("web-3.s1.n1.svc.cluster.local"),
            Found::Here(_)
        ));
        cluster.slices_are_known(|_| false);
        assert_eq!(cluster.zone().find("web-3.s1.n1.svc.cluster.local"), Found::Missing);
        cluster.services_are_known(|_| false);
        assert!(cluster.services.is_empty() && cluster.slices.is_empty() && cluster.owners.is_empty());
    }
}
