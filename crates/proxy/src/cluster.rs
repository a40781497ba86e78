//! What the API has told so far, and which Services are to be looked at again.

use crate::service::{Key, Service, Slice};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An EndpointSlice's namespace and name.
pub(crate) type SliceKey = (String, String);

/// Services and EndpointSlices.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    services: HashMap<Key, Service>,
    /// By Service; in order, so that the same objects always give the same rules.
    slices: HashMap<Key, BTreeMap<String, Slice>>,
    /// Which Service a slice belonged to when it was seen last.
    owners: HashMap<SliceKey, Key>,
    changed: BTreeSet<Key>,
    are_services_known: bool,
    are_slices_known: bool,
}

impl Cluster {
    /// Everything was listed at least once; before that, rules would cut connections that should go on.
    pub(crate) fn is_known(&self) -> bool {
        self.are_services_known && self.are_slices_known
    }

    /// The Services that changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn service(&self, key: &Key) -> Option<&Service> {
        self.services.get(key)
    }

    pub(crate) fn slices(&self, key: &Key) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Takes a Service over; `None` if it needs no rules (any more).
    pub(crate) fn set_service(&mut self, key: Key, service: Option<Service>) {
        let before = match service.clone() {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        if before != service {
            self.changed.insert(key);
        }
    }

    pub(crate) fn set_slice(&mut self, slice_key: SliceKey, owner: Key, slice: Slice) {
        if self.owners.get(&slice_key).is_some_and(|known| *known != owner) {
            self.remove_slice(&slice_key);
        }
        let slices = self.slices.entry(owner.clone()).or_default();
        if slices.get(&slice_key.1) != Some(&slice) {
            slices.insert(slice_key.1.clone(), slice);
            self.changed.insert(owner.clone());
        }
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
        self.changed.insert(owner);
    }

    /// All Services have been told; those for which `is_seen` does not hold are gone.
    pub(crate) fn services_are_known(&mut self, is_seen: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = self.services.keys().filter(|key| !is_seen(key)).cloned().collect();
        for key in gone {
            self.set_service(key, None);
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
}
