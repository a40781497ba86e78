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
