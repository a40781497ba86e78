//! The rules that are in force, and the transaction that leads from them to others.
//!
//! A table has a fixed frame, made at the start, and one [`Part`] for each Service. Changing a Service is a transaction
//! of just what differs between two parts, so its size does not depend on the number of other Services.

use crate::claims::Claims;
use crate::element::{Element, Lead};
use crate::frame::frame;
use crate::rules::Surroundings;
use crate::service::Family;
use crate::shape::Shape;
use crate::transaction::Transaction;
use service_watch::Key;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The name of our tables, one in the family `ip` and one in `ip6`.
pub(crate) const TABLE: &str = "steadfast-proxy";

impl Family {
    /// As the rules call the header, and as nft calls the table's family.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// As nft calls the type of an address.
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }
}

/// What one Service adds to the frame. The chains that it shares with others follow from its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Sets of its own by name, with their declaration.
    pub(crate) sets: BTreeMap<String, String>,
    /// Chains of its own by name, with their rules.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Elements with what they lead to.
    pub(crate) elements: BTreeMap<Element, Lead>,
}

impl Part {
    fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.elements.values().filter_map(|lead| match lead {
            Lead::Shape(shape) => Some(*shape),
            _ => None,
        })
    }
}

/// A client that stays with one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The set of the endpoint's clients.
    pub(crate) set: String,
    pub(crate) client: String,
    /// For how long clients of this set are remembered.
    pub(crate) timeout_s: u64,
    /// For how much longer this one is.
    pub(crate) expires_s: u64,
}

impl Remembered {
    fn command(&self, table: &str) -> String {
        let Self {
            set,
            client,
            timeout_s,
            expires_s,
        } = self;
        let expires = expires_s.clamp(&1, timeout_s);
        format!("add element {table} {set} {{ {client} timeout {timeout_s}s expires {expires}s }}\n")
    }
}

/// All parts of one family as they are in force.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    family: Family,
    frame: String,
    parts: HashMap<Arc<Key>, Part>,
    claims: Claims,
    /// How many elements lead to each chain that Services share.
    shapes: BTreeMap<Shape, usize>,
}

impl Ruleset {
    pub(crate) fn new(family: Family, around: &Surroundings) -> Self {
        Self {
            family,
            frame: frame(family, around),
            parts: HashMap::new(),
            claims: Claims::default(),
            shapes: BTreeMap::new(),
        }
    }

    /// There is nothing but the frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The commands that put this whole ruleset in the place of whatever is there. Clients that were remembered stay
    /// with their endpoints.
    pub(crate) fn whole(&self, remembered: &[Remembered]) -> String {
        let table = table(self.family);
        let mut transaction = Transaction::new(table.clone());
        for shape in self.shapes.keys() {
            self.replace_shape(&mut transaction, *shape, false);
        }
        for part in self.parts.values() {
            transaction.replace_part(&Part::default(), part);
        }
        for (element, lead) in self.claims.iter() {
            transaction.replace_element(element, None, Some(lead));
        }
        let mut text = removal(self.family) + &self.frame;
        transaction.write(&mut text);
        for client in remembered {
            let timeout = format!(" timeout {}s;", client.timeout_s);
            let mut sets = self.parts.values().filter_map(|part| part.sets.get(&client.set));
            if sets.any(|declaration| declaration.contains(&timeout)) {
                text.push_str(&client.command(&table));
            }
        }
        text
    }

    /// Takes new parts over and returns the commands that make them true; empty if nothing changes.
    ///
    /// The part of a Service that is gone is an empty one.
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = (Key, Part)>) -> String {
        let mut transaction = Transaction::new(table(self.family));
        let mut leads: BTreeMap<Element, Option<Lead>> = BTreeMap::new();
        let mut shapes: BTreeMap<Shape, bool> = BTreeMap::new();
        for (key, part) in changes {
            let (key, before) = self
                .parts
                .remove_entry(&key)
                .unwrap_or_else(|| (Arc::new(key), Part::default()));
            if before != part {
                for element in before.elements.keys().chain(part.elements.keys()) {
                    let lead = || self.claims.lead(element).cloned();
                    leads.entry(*element).or_insert_with(lead);
                }
                for shape in before.shapes().chain(part.shapes()) {
                    let is_there = || self.shapes.contains_key(&shape);
                    shapes.entry(shape).or_insert_with(is_there);
                }
                self.claim(&key, &before, &part);
                transaction.replace_part(&before, &part);
            }
            if part != Part::default() {
                self.parts.insert(key, part);
            }
        }
        for (shape, was_there) in shapes {
            self.replace_shape(&mut transaction, shape, was_there);
        }
        for (element, before) in &leads {
            transaction.replace_element(element, before.as_ref(), self.claims.lead(element));
        }
        let mut text = String::new();
        transaction.write(&mut text);
        text
    }

    fn claim(&mut self, key: &Arc<Key>, before: &Part, part: &Part) {
        for element in before.elements.keys() {
            if !part.elements.contains_key(element) {
                self.claims.remove(element, key);
            }
        }
        for (element, lead) in &part.elements {
            if before.elements.get(element) != Some(lead) {
                self.claims.add(*element, key, lead.clone());
            }
        }
        for shape in part.shapes() {
            *self.shapes.entry(shape).or_default() += 1;
        }
        for shape in before.shapes() {
            let users = self.shapes.get_mut(&shape);
            let users = users.expect("it was counted when the part came");
            *users -= 1;
            if *users == 0 {
                self.shapes.remove(&shape);
            }
        }
    }

    fn replace_shape(&self, transaction: &mut Transaction, shape: Shape, was_there: bool) {
        let rules = shape.rules(self.family);
        let before = was_there.then_some(rules.as_slice());
        let after = self.shapes.contains_key(&shape).then_some(rules.as_slice());
        transaction.replace_chain(&shape.to_string(), before, after);
    }
}

/// The commands that remove our table of a family, whether it is there or not.
pub(crate) fn removal(family: Family) -> String {
    let table = table(family);
    format!("add table {table}\ndelete table {table}\n")
}

/// The table as commands name it.
pub(crate) fn table(family: Family) -> String {
    format!("{} {TABLE}", family.header())
}

#[cfg(test)]
mod tests;
