//! Sets of field paths, and their form on the wire (`FieldsV1`).

use serde_json::{Map, Value};
use std::fmt::Write;

/// The entry of `FieldsV1` that says that the path itself is in the set.
const SELF: &str = ".";

/// A set of paths, as a tree whose edges are path elements in their form on the wire: `f:NAME`, `k:{KEYS}`, `v:VALUE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the path that leads here is in the set.
    pub(super) member: bool,
    /// Sorted by element; none of them is empty.
    children: Vec<(String, Self)>,
}

impl FieldSet {
    /// The set of the path that leads here.
    pub(super) fn leaf() -> Self {
        Self {
            member: true,
            children: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn child(&self, element: &str) -> Option<&Self> {
        self.position(element).ok().map(|at| &self.children[at].1)
    }

    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children.iter().map(|(element, child)| (element.as_str(), child))
    }

    /// Adds a child; one that is there already is joined with it.
    pub(super) fn add(&mut self, element: String, child: Self) {
        if child.is_empty() {
            return;
        }
        match self.position(&element) {
            Ok(at) => self.children[at].1.unite(child),
            Err(at) => self.children.insert(at, (element, child)),
        }
    }

    /// Adds the paths of `other`.
    pub(super) fn unite(&mut self, other: Self) {
        self.member |= other.member;
        for (element, child) in other.children {
            self.add(element, child);
        }
    }

    /// Removes exactly the paths of `other`; what lies below them stays.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        if other.children.is_empty() {
            return;
        }
        self.children.retain_mut(|(element, child)| {
            if let Some(other) = other.child(element) {
                child.subtract(other);
            }
            !child.is_empty()
        });
    }

    /// The paths that are in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            member: self.member && other.member,
            children: Vec::new(),
        };
        for (element, child) in &self.children {
            if let Some(other) = other.child(element) {
                both.add(element.clone(), child.intersection(other));
            }
        }
        both
    }

    /// Removes the path and all below it.
    pub(super) fn prune(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let Ok(at) = self.position(first) else { return };
        if rest.is_empty() {
            self.children.remove(at);
        } else {
            self.children[at].1.prune(rest);
            if self.children[at].1.is_empty() {
                self.children.remove(at);
            }
        }
    }

    /// Removes the path, not what is below it.
    pub(super) fn forget(&mut self, element: &str) {
        if let Ok(at) = self.position(element) {
            self.children[at].1.member = false;
            if self.children[at].1.is_empty() {
                self.children.remove(at);
            }
        }
    }

    /// Calls `visit` for each path, in order, with the path as messages show it, e.g. `.data.k`.
    pub(super) fn for_each_path(&self, visit: &mut dyn FnMut(&str)) {
        self.paths(&mut String::new(), visit);
    }

    fn paths(&self, path: &mut String, visit: &mut dyn FnMut(&str)) {
        if self.member {
            visit(path);
        }
        for (element, child) in &self.children {
            let length = path.len();
            show(element, path);
            child.paths(path, visit);
            path.truncate(length);
        }
    }

    fn position(&self, element: &str) -> Result<usize, usize> {
        self.children.binary_search_by(|(other, _)| other.as_str().cmp(element))
    }

    /// Reads `fieldsV1`; `None` if it is not one.
    pub(super) fn decode(fields: &Value) -> Option<Self> {
        let mut set = Self {
            member: false,
            children: Vec::new(),
        };
        let fields = fields.as_object()?;
        for (element, value) in fields {
            if element == SELF {
                set.member = true;
                continue;
            }
            let mut child = Self::decode(value)?;
            // An element with nothing below it stands for the path itself.
            child.member |= child.children.is_empty();
            set.add(canonical(element)?, child);
        }
        Some(set)
    }

    /// The set as `fieldsV1`.
    pub(super) fn encode(self) -> Value {
        let is_leaf = self.children.is_empty();
        let mut fields = Map::new();
        if self.member && !is_leaf {
            fields.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        fields.extend(
            self.children
                .into_iter()
                .map(|(element, child)| (element, child.encode())),
        );
        Value::Object(fields)
    }
}

/// The path element of a field or a map's key.
pub(super) fn field(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

/// The path element of an item of a set.
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// The path element of an item that is told apart by `keys`.
pub(super) fn keys(keys: Map<String, Value>) -> String {
    format!("k:{}", Value::Object(keys))
}

/// The element in the one way we write it; `None` if it is none.
fn canonical(element: &str) -> Option<String> {
    match element.split_at_checked(2)? {
        ("f:" | "i:", _) => Some(element.to_owned()),
        ("v:", text) => serde_json::from_str(text).ok().map(|found: Value| value(&found)),
        ("k:", text) => serde_json::from_str(text).ok().map(keys),
        _ => None,
    }
}

/// The element as messages show it: `.name`, `[name="c"]`, `[="x"]`, `[0]`.
pub(super) fn show(element: &str, path: &mut String) {
    let (kind, text) = element.split_at(2);
    let shown = match kind {
        "f:" => write!(path, ".{text}"),
        "v:" => write!(path, "[={text}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(path, "[{}]", keys.join(","))
        }
        _ => write!(path, "[{text}]"),
    };
    shown.expect("a string takes all that is written");
}
