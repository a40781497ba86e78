//! Whether labels are selected, asked of typed selectors.

use std::collections::BTreeMap;

use api::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels as objects have them.
pub type Labels = BTreeMap<String, String>;

/// The two forms in which workloads select pods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selection<'a> {
    /// A `LabelSelector`.
    Selector(&'a LabelSelector),
    /// The plain map of ReplicationControllers and Services.
    Map(Option<&'a Labels>),
}

impl Selection<'_> {
    /// Whether it selects everything, which is taken for a mistake wherever pods are owned.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Selector(selector) => is_empty(selector),
            Self::Map(map) => map.is_none_or(BTreeMap::is_empty),
        }
    }

    /// Whether it selects an object with these labels.
    pub(crate) fn selects(&self, labels: Option<&Labels>) -> bool {
        match self {
            Self::Selector(selector) => selects(selector, labels),
            Self::Map(map) => map.iter().all(|map| has_all(map, labels)),
        }
    }
}

/// Whether a selector says nothing, and so selects everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a selector selects an object with these labels. An expression that makes no sense selects nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let fits = selector.match_labels.iter().all(|map| has_all(map, labels));
    fits && selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.and_then(|labels| labels.get(&expression.key));
        let is_listed = value.is_some_and(|value| expression.values.iter().flatten().any(|listed| listed == value));
        match expression.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    })
}

/// Whether labels include all of some others.
pub(crate) fn has_all(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// A label that everything selected has, if the selector names one: the term to look it up by in an index.
pub fn term(selector: &LabelSelector) -> Option<(&str, &str)> {
    let (key, value) = selector.match_labels.as_ref()?.first_key_value()?;
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "other", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Maybe"}]}),
                false,
            ),
        ];
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        for (selector, expected) in cases {
            let typed = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(selects(&typed, Some(&labels)), expected, "{selector}");
        }
    }
}
