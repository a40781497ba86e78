//! The commands of one atomic change, in an order in which nothing is named before it is there or removed while it is
//! named. Pure.

use crate::element::{Element, Lead, Map};
use crate::ruleset::Part;
use std::collections::BTreeMap;

/// Elements that one command names: a netlink message takes some, and an error names the command.
const ELEMENTS_MAX: usize = 500;

/// Elements with what they lead to, as they are written.
type Elements = BTreeMap<Map, Vec<String>>;

/// Commands on the way.
#[derive(Debug)]
pub(crate) struct Transaction {
    table: String,
    made: Vec<String>,
    forgotten: Elements,
    emptied: Vec<String>,
    filled: Vec<String>,
    learnt: Elements,
    removed: Vec<String>,
}

impl Transaction {
    pub(crate) fn new(table: String) -> Self {
        Self {
            table,
            made: Vec::new(),
            forgotten: Elements::new(),
            emptied: Vec::new(),
            filled: Vec::new(),
            learnt: Elements::new(),
            removed: Vec::new(),
        }
    }

    /// The sets and chains of a Service's own.
    pub(crate) fn replace_part(&mut self, before: &Part, after: &Part) {
        for (name, declaration) in &after.sets {
            let table = &self.table;
            match before.sets.get(name) {
                Some(known) if known == declaration => {}
                // What a set holds cannot outlive a change of its own kind.
                Some(_) => self.made.push(format!("flush set {table} {name}")),
                None => self.made.push(format!("add set {table} {name} {{ {declaration} }}")),
            }
        }
        for (name, rules) in &after.chains {
            self.replace_chain(name, before.chains.get(name).map(Vec::as_slice), Some(rules));
        }
        for (name, rules) in before
            .chains
            .iter()
            .filter(|(name, _)| !after.chains.contains_key(*name))
        {
            self.replace_chain(name, Some(rules), None);
        }
        for name in before.sets.keys().filter(|name| !after.sets.contains_key(*name)) {
            self.removed.push(format!("delete set {} {name}", self.table));
        }
    }

    pub(crate) fn replace_chain(&mut self, name: &str, before: Option<&[String]>, after: Option<&[String]>) {
        if before == after {
            return;
        }
        let table = &self.table;
        match before {
            Some(_) => self.emptied.push(format!("flush chain {table} {name}")),
            None => self.made.push(format!("add chain {table} {name}")),
        }
        match after {
            Some(rules) => {
                let rules = rules.iter().map(|rule| format!("add rule {table} {name} {rule}"));
                self.filled.extend(rules);
            }
            None => self.removed.push(format!("delete chain {table} {name}")),
        }
    }

    pub(crate) fn replace_element(&mut self, element: &Element, before: Option<&Lead>, after: Option<&Lead>) {
        if before == after {
            return;
        }
        for (lead, elements) in [(before, &mut self.forgotten), (after, &mut self.learnt)] {
            if let Some(lead) = lead {
                let of_map = elements.entry(element.map()).or_default();
                of_map.push(format!("{element}{lead}"));
            }
        }
    }

    pub(crate) fn write(&self, text: &mut String) {
        let lines = |commands: &[String], text: &mut String| {
            for command in commands {
                text.push_str(command);
                text.push('\n');
            }
        };
        lines(&self.made, text);
        self.write_elements("delete", &self.forgotten, text);
        lines(&self.emptied, text);
        lines(&self.filled, text);
        self.write_elements("add", &self.learnt, text);
        lines(&self.removed, text);
    }

    fn write_elements(&self, verb: &str, elements: &Elements, text: &mut String) {
        for (map, elements) in elements {
            for some in elements.chunks(ELEMENTS_MAX) {
                let (table, name, some) = (&self.table, map.name(), some.join(", "));
                *text += &format!("{verb} element {table} {name} {{ {some} }}\n");
            }
        }
    }
}
