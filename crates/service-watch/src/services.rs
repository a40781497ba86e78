//! What the API has told so far, by Service.

use api::k8s::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Says which Service an EndpointSlice belongs to.
const OWNER_LABEL: &str = "kubernetes.io/service-name";

/// A Service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An EndpointSlice's namespace and name.
pub type SliceKey = (String, String);

/// The Service that an EndpointSlice belongs to; `None` if it belongs to none.
pub fn owner_of(slice: &EndpointSlice) -> Option<Key> {
    Some(Key {
        namespace: slice.metadata.namespace.clone()?,
        name: slice.metadata.labels.as_ref()?.get(OWNER_LABEL)?.clone(),
    })
}

/// One thing that the API told.
#[derive(Clone, Debug)]
pub enum Told<S, L> {
    /// A Service is so; `None`: it is gone, or of no interest.
    Service(Key, Option<S>),
    /// An EndpointSlice is so and belongs to this Service; `None`: it is gone, or of no interest.
    Slice(SliceKey, Option<(Key, L)>),
    /// All Services were told; there are no others.
    Services(HashSet<Key>),
    /// All EndpointSlices were told; there are no others.
    Slices(HashSet<SliceKey>),
}

/// Services (`S`) and EndpointSlices (`L`).
#[derive(Debug)]
pub struct Services<S, L> {
    services: HashMap<Key, S>,
    /// By Service; in order, so that the same objects always give the same.
    slices: HashMap<Key, BTreeMap<String, L>>,
    /// Which Service a slice belonged to when it was seen last.
    owners: HashMap<SliceKey, Key>,
    are_services_known: bool,
    are_slices_known: bool,
}

impl<S, L> Default for Services<S, L> {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            slices: HashMap::new(),
            owners: HashMap::new(),
            are_services_known: false,
            are_slices_known: false,
        }
    }
}

impl<S: PartialEq, L: PartialEq> Services<S, L> {
    /// Everything was listed at least once; before that, what is missing means nothing.
    pub fn is_known(&self) -> bool {
        self.are_services_known && self.are_slices_known
    }

    /// A Service.
    pub fn service(&self, key: &Key) -> Option<&S> {
        self.services.get(key)
    }

    /// The EndpointSlices of a Service, in order of their names; they may be there before it.
    pub fn slices(&self, key: &Key) -> impl Iterator<Item = &L> + Clone {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// All Services.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.services.keys()
    }

    /// Takes over what was told and says which Services are not as they were, be it only in their endpoints.
    pub fn take(&mut self, told: Told<S, L>) -> BTreeSet<Key> {
        let mut changed = BTreeSet::new();
        match told {
            Told::Service(key, service) => self.set_service(key, service, &mut changed),
            Told::Slice(key, slice) => self.set_slice(key, slice, &mut changed),
            Told::Services(seen) => {
                let gone: Vec<Key> = self
                    .services
                    .keys()
                    .filter(|key| !seen.contains(key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.set_service(key, None, &mut changed);
                }
                self.are_services_known = true;
            }
            Told::Slices(seen) => {
                let gone: Vec<SliceKey> = self.owners.keys().filter(|key| !seen.contains(*key)).cloned().collect();
                for key in gone {
                    self.set_slice(key, None, &mut changed);
                }
                self.are_slices_known = true;
            }
        }
        changed
    }

    fn set_service(&mut self, key: Key, service: Option<S>, changed: &mut BTreeSet<Key>) {
        if self.services.get(&key) == service.as_ref() {
            return;
        }
        changed.insert(key.clone());
        match service {
            Some(service) => drop(self.services.insert(key, service)),
            None => drop(self.services.remove(&key)),
        }
    }

    fn set_slice(&mut self, key: SliceKey, slice: Option<(Key, L)>, changed: &mut BTreeSet<Key>) {
        let owner = slice.as_ref().map(|(owner, _)| owner);
        if let Some(known) = self.owners.get(&key).cloned()
            && owner != Some(&known)
        {
            self.owners.remove(&key);
            if let Some(slices) = self.slices.get_mut(&known) {
                slices.remove(&key.1);
                if slices.is_empty() {
                    self.slices.remove(&known);
                }
            }
            changed.insert(known);
        }
        let Some((owner, slice)) = slice else { return };
        let slices = self.slices.entry(owner.clone()).or_default();
        if slices.get(&key.1) != Some(&slice) {
            slices.insert(key.1.clone(), slice);
            changed.insert(owner.clone());
        }
        self.owners.insert(key, owner);
    }
}

#[cfg(test)]
mod tests;
