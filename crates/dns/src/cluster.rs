//! What the API has told so far, turned into the zone step by step.

use crate::records::{self, Service, Slice};
use crate::zone::Zone;
use service_watch::{Key, Services};
use std::sync::{Arc, RwLock};

/// What the API tells, as far as names need it.
pub(crate) type Told = service_watch::Told<Service, Slice>;

/// The cluster as the follower and the handlers share it.
pub(crate) type Shared = Arc<RwLock<Cluster>>;

/// Why the lock is never poisoned.
pub(crate) const NO_PANIC: &str = "nothing panics while it holds the cluster";

/// Services and EndpointSlices with the names they give.
#[derive(Debug)]
pub(crate) struct Cluster {
    zone: Zone,
    services: Services<Service, Slice>,
}

impl Cluster {
    pub(crate) fn new(zone: Zone) -> Self {
        Self {
            zone,
            services: Services::default(),
        }
    }

    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Everything was listed at least once; before that, a missing name means nothing.
    pub(crate) fn is_known(&self) -> bool {
        self.services.is_known()
    }

    /// Takes over what was told.
    pub(crate) fn take(&mut self, told: Told) {
        for key in self.services.take(told) {
            self.rebuild(&key);
        }
    }

    fn rebuild(&mut self, key: &Key) {
        let records = match self.services.service(key) {
            Some(service) => records::of_service(self.zone.domain(), key, service, self.services.slices(key)),
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
    use service_watch::SliceKey;
    use std::collections::HashSet;

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

    fn key(name: u8) -> Key {
        Key {
            namespace: format!("n{}", name % 2),
            name: format!("s{name}"),
        }
    }

    fn service(name: u8, kind: u8) -> Service {
        let spec = match kind {
            0 => json!({"clusterIP": format!("10.96.0.{name}"), "ports": [{"name": "http", "port": 80}]}),
            1 => json!({"clusterIP": "None"}),
            _ => json!({"type": "ExternalName", "externalName": "example.com"}),
        };
        let service: core::Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        Service::read(&service).unwrap()
    }

    fn slice_key(slice: u8) -> SliceKey {
        (format!("n{}", slice % 2), format!("e{slice}"))
    }

    fn slice(hosts: &[u8]) -> Slice {
        let endpoints: Vec<_> = hosts
            .iter()
            .map(|host| json!({"addresses": [format!("10.244.0.{host}")], "hostname": format!("web-{host}")}))
            .collect();
        let slice: discovery::EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "web", "port": 80}],
        }))
        .unwrap();
        Slice::read(&slice)
    }

    /// All records of the present objects, made at once.
    fn all_records(cluster: &Cluster) -> Vec<Record> {
        let of_one = |key: &Key| {
            let service = cluster.services.service(key).expect("it is listed");
            records::of_service(DOMAIN, key, service, cluster.services.slices(key))
        };
        cluster.services.keys().flat_map(of_one).collect()
    }

    fn sorted(mut data: Vec<Data>) -> Vec<Data> {
        data.sort();
        data
    }

    proptest! {
        #[test]
        fn steps_lead_to_the_same_zone_as_all_at_once(changes in prop::collection::vec(change(), 0..60)) {
            let mut cluster = Cluster::new(Zone::new(DOMAIN, &[], 1));
            let mut names = std::collections::BTreeSet::new();
            for change in changes {
                cluster.take(match change {
                    Change::Service { name, kind } => Told::Service(key(name), Some(service(name, kind))),
                    Change::NoService { name } => Told::Service(key(name), None),
                    Change::Slice { slice: number, service, hosts } => {
                        Told::Slice(slice_key(number), Some((key(service), slice(&hosts))))
                    }
                    Change::NoSlice { slice } => Told::Slice(slice_key(slice), None),
                });
                names.extend(all_records(&cluster).into_iter().map(|record| record.name));
            }
            let records = all_records(&cluster);
            names.extend(["n0.svc.cluster.local".to_owned(), "_tcp.s1.n1.svc.cluster.local".to_owned()]);
            for name in names {
                let here: Vec<_> = records.iter().filter(|record| record.name == name).collect();
                let below = records.iter().any(|record| record.name.ends_with(&format!(".{name}")));
                let expected = if !here.is_empty() || (below && name.ends_with(DOMAIN)) {
                    Found::Here(sorted(here.into_iter().map(|record| record.data.clone()).collect()).into())
                } else if name.ends_with(DOMAIN) {
                    Found::Missing
                } else {
                    Found::Outside
                };
                let found = match cluster.zone().find(&name) {
                    Found::Here(data) => Found::Here(sorted(data.into_owned()).into()),
                    found => found,
                };
                prop_assert_eq!(found, expected, "{}", name);
            }
        }
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone() {
        let mut cluster = Cluster::new(Zone::new(DOMAIN, &[], 1));
        cluster.take(Told::Service(key(1), Some(service(1, 1))));
        cluster.take(Told::Slice(slice_key(1), Some((key(1), slice(&[3])))));
        assert!(!cluster.is_known());
        cluster.take(Told::Services(HashSet::from([key(1)])));
        cluster.take(Told::Slices(HashSet::from([slice_key(1)])));
        assert!(cluster.is_known());
        assert!(matches!(
            cluster.zone().find("web-3.s1.n1.svc.cluster.local"),
            Found::Here(_)
        ));
        cluster.take(Told::Slices(HashSet::new()));
        assert_eq!(cluster.zone().find("web-3.s1.n1.svc.cluster.local"), Found::Missing);
    }
}
