//! A pod as the checks look at it, and the words in which they speak of it.

use serde_json::Value;
use std::collections::BTreeSet;

/// A pod, or the template of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) annotations: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Subject<'a> {
    pub(super) fn new(annotations: &'a Value, spec: &'a Value) -> Self {
        Self { annotations, spec }
    }

    /// All containers, in the order in which checks name them.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| spec[list].as_array().into_iter().flatten())
    }

    /// The names of the containers that are bad in some way.
    pub(super) fn bad_containers(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers().filter(|container| is_bad(container));
        bad.map(|container| container["name"].as_str().unwrap_or_default())
            .collect()
    }

    /// Who sets something bad in a security context: `pod and container "a"`; `None` if nobody does.
    pub(super) fn bad_setters(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Option<String> {
        let mut setters = Vec::new();
        if is_bad(&self.spec["securityContext"]) {
            setters.push("pod".to_owned());
        }
        let containers = self.bad_containers(|container| is_bad(&container["securityContext"]));
        if !containers.is_empty() {
            setters.push(named_containers(&containers));
        }
        (!setters.is_empty()).then(|| setters.join(" and "))
    }

    /// Whether root in the pod is nobody outside of it.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn named_containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

/// A word, with an s if it is about several.
pub(super) fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// `uses` of one, `use` of several.
pub(super) fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// Each in quotes, with commas between.
pub(super) fn quoted<'a>(texts: impl IntoIterator<Item = impl AsRef<str> + 'a>) -> String {
    let quoted = texts.into_iter().map(|text| format!("\"{}\"", text.as_ref()));
    quoted.collect::<Vec<_>>().join(", ")
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Distinct texts, sorted.
pub(super) type Distinct<'a> = BTreeSet<&'a str>;
