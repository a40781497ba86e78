//! Who wants an element to lead where. Two Services may claim the same external address and port: the first by name has
//! it, and the next gets it when the first gives it up. Pure.

use crate::element::{Element, Lead};
use service_watch::Key;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Those who claim one element: nearly always just one, so that one needs no tree.
#[derive(Clone, Debug)]
enum Claimants {
    One(Arc<Key>, Lead),
    Several(BTreeMap<Arc<Key>, Lead>),
}

/// All claims.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    by_element: HashMap<Element, Claimants>,
}

impl Claims {
    /// Every element with where it leads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Element, &Lead)> {
        self.by_element
            .iter()
            .map(|(element, claimants)| (element, claimants.first()))
    }

    /// Where an element leads.
    pub(crate) fn lead(&self, element: &Element) -> Option<&Lead> {
        self.by_element.get(element).map(Claimants::first)
    }

    pub(crate) fn add(&mut self, element: Element, key: &Arc<Key>, lead: Lead) {
        let claimants = match self.by_element.remove(&element) {
            None => Claimants::One(key.clone(), lead),
            Some(Claimants::One(known, _)) if known == *key => Claimants::One(known, lead),
            Some(Claimants::One(known, its)) => Claimants::Several(BTreeMap::from([(known, its), (key.clone(), lead)])),
            Some(Claimants::Several(mut claimants)) => {
                claimants.insert(key.clone(), lead);
                Claimants::Several(claimants)
            }
        };
        self.by_element.insert(element, claimants);
    }

    pub(crate) fn remove(&mut self, element: &Element, key: &Key) {
        let is_last = match self.by_element.get_mut(element) {
            None => false,
            Some(Claimants::One(known, _)) => **known == *key,
            Some(Claimants::Several(claimants)) => {
                claimants.remove(key);
                claimants.is_empty()
            }
        };
        if is_last {
            self.by_element.remove(element);
        }
    }
}

impl Claimants {
    fn first(&self) -> &Lead {
        match self {
            Self::One(_, lead) => lead,
            Self::Several(claimants) => {
                let first = claimants.first_key_value();
                first.expect("the element goes with its last claimant").1
            }
        }
    }
}
