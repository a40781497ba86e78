//! Sums and comparisons of resource lists.

use super::ResourceList;
use crate::quantity::Amount;
use serde_json::Value;

/// A resource list of an object; what is no quantity is left out.
pub(super) fn of(list: &Value) -> ResourceList {
    let entries = list.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), Amount::parse(value.as_str()?).ok()?)))
        .collect()
}

/// The sum of both, resource by resource.
pub(super) fn sum(left: &ResourceList, right: &ResourceList) -> ResourceList {
    let mut sum = left.clone();
    for (name, amount) in right {
        let entry = sum.entry(name.clone()).or_default();
        *entry = *entry + *amount;
    }
    sum
}

/// The larger of both, resource by resource.
pub(super) fn larger(left: &ResourceList, right: &ResourceList) -> ResourceList {
    let mut larger = left.clone();
    for (name, amount) in right {
        let entry = larger.entry(name.clone()).or_insert(*amount);
        if amount.quantity > entry.quantity {
            *entry = *amount;
        }
    }
    larger
}

/// By how much each resource has grown; what has shrunk has grown by nothing.
pub(super) fn growth(old: &ResourceList, new: &ResourceList) -> ResourceList {
    let grown = |(name, amount): (&String, &Amount)| {
        let before = old.get(name).copied().unwrap_or_default();
        let is_more = amount.quantity > before.quantity;
        (name.clone(), if is_more { *amount - before } else { Amount::default() })
    };
    new.iter().map(grown).collect()
}

/// Some resources of a list as messages show them: `cpu=1,memory=2Gi`.
pub(super) fn text<'a>(list: &ResourceList, names: impl Iterator<Item = &'a String>) -> String {
    let parts = names.filter_map(|name| Some(format!("{name}={}", list.get(name)?)));
    parts.collect::<Vec<_>>().join(",")
}
