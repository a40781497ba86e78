//! Small pieces of text that many cells are made of.

use crate::selector::LabelSelector;
use serde_json::Value;

/// A text, or `<none>` if it is empty.
pub(super) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// A text, or `<unset>` if it is empty.
pub(super) fn or_unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(",")).to_owned()
}

/// The text of a `LabelSelector`, or `<none>`.
pub(super) fn selector(selector: &Value) -> String {
    match LabelSelector::from_object(selector) {
        Ok(parsed) => or_none(&parsed.to_text()).to_owned(),
        Err(_) => "<error>".to_owned(),
    }
}

/// One field of all items, joined by commas.
pub(super) fn joined(items: &[Value], field: &str) -> String {
    let texts: Vec<&str> = items
        .iter()
        .map(|item| item[field].as_str().unwrap_or_default())
        .collect();
    texts.join(",")
}

/// The first `max` texts, and how many more there are.
pub(super) fn first(texts: &[String], max: usize) -> String {
    if texts.len() > max {
        format!("{} + {} more...", texts[..max].join(","), texts.len() - max)
    } else {
        texts.join(",")
    }
}

/// A count or percentage as it was written.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
