//! Field selectors: which fields each kind can be selected by, and where they stand in the object.

use crate::kinds::Kind;
use serde_json::Value;
use std::borrow::Cow;

/// A parsed field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// (path, whether equal, value), all must hold.
    pub terms: Vec<(String, bool, String)>,
}

/// Parses the text of a `fieldSelector` parameter for a kind.
///
/// # Errors
/// Upstream's words for syntax errors and for fields that the kind does not support.
pub fn parse_fields(kind: &Kind, text: &str) -> Result<FieldSelector, String> {
    let mut terms = Vec::new();
    for term in split_terms(text) {
        if term.is_empty() {
            continue;
        }
        let (field, equal, value) =
            split_term(term).ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
        check_supported(kind, field)?;
        terms.push((field.to_owned(), equal, unescape(value)?));
    }
    Ok(FieldSelector { terms })
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{other}"));
                }
                None => return Err("invalid field selector: incomplete escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

const EVENT_OBJECT: [&str; 7] = [
    "kind",
    "namespace",
    "name",
    "uid",
    "apiVersion",
    "resourceVersion",
    "fieldPath",
];

/// The fields that a kind can be selected by, besides its name and namespace.
fn supported(kind: &Kind) -> &'static [&'static str] {
    match (kind.group, kind.kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("" | "events.k8s.io", "Event") => &["reason", "reportingComponent", "reportingController", "source", "type"],
        ("", "Secret") => &["type"],
        ("", "Namespace") => &["status.phase"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("certificates.k8s.io", _) => &["spec.signerName"],
        ("networking.k8s.io", "IPAddress") => &["spec.parentRef"],
        ("resource.k8s.io", "ResourceSlice") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

fn check_supported(kind: &Kind, field: &str) -> Result<(), String> {
    let by_name = field == "metadata.name"
        || (field == "metadata.namespace" && (kind.namespaced || (kind.group.is_empty() && kind.kind == "Node")));
    if by_name || supported(kind).contains(&field) || is_event_object(kind, field) {
        return Ok(());
    }
    if let Some(version) = &kind.custom {
        return match version.selects_by(field) {
            true => Ok(()),
            false => Err(format!("field label not supported: {field}")),
        };
    }
    // Upstream words it in two ways: for kinds with fields of their own, and for all others.
    if supported(kind).is_empty() {
        let known = r#""metadata.name", "metadata.namespace""#;
        return Err(format!("{field:?} is not a known field selector: only {known}"));
    }
    Err(format!("field label not supported: {field}"))
}

fn is_event_object(kind: &Kind, field: &str) -> bool {
    let part = field
        .strip_prefix("involvedObject.")
        .or_else(|| field.strip_prefix("regarding."));
    kind.custom.is_none() && kind.kind == "Event" && part.is_some_and(|part| EVENT_OBJECT.contains(&part))
}

impl FieldSelector {
    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|(path, equal, value)| field(object, path, value) == *equal)
    }

    /// The value that `metadata.name` must have, if the selector says so: then there is at most one such object.
    pub fn name(&self) -> Option<&str> {
        self.terms
            .iter()
            .find(|(path, equal, _)| *equal && path == "metadata.name")
            .map(|(_, _, value)| value.as_str())
    }
}

/// Whether a field has a value. Events are selected by either group's field names, whichever form they are in.
fn field(object: &Value, path: &str, value: &str) -> bool {
    match path {
        "status.podIP" | "status.podIPs" => {
            let ips = object.pointer("/status/podIPs").and_then(Value::as_array);
            let listed = ips.into_iter().flatten().any(|ip| ip["ip"] == *value);
            listed || text(object, "/status/podIP") == value
        }
        "source" => {
            let component = [
                "/source/component",
                "/deprecatedSource/component",
                "/reportingComponent",
            ];
            first(object, &component) == value
        }
        "reportingComponent" | "reportingController" => {
            first(object, &["/reportingComponent", "/reportingController"]) == value
        }
        "spec.hostNetwork" | "spec.unschedulable" => {
            let set = object.pointer(&pointer(path)).and_then(Value::as_bool).unwrap_or(false);
            set.to_string() == value
        }
        "status.successful" => number(object, "/status/succeeded") == value,
        "status.replicas" => number(object, "/status/replicas") == value,
        _ => match path
            .strip_prefix("involvedObject.")
            .or_else(|| path.strip_prefix("regarding."))
        {
            Some(part) => {
                first(
                    object,
                    &[&format!("/involvedObject/{part}"), &format!("/regarding/{part}")],
                ) == value
            }
            None => match object.pointer(&pointer(path)) {
                Some(Value::Bool(found)) => found.to_string() == value,
                Some(Value::Number(found)) => found.to_string() == value,
                found => found.and_then(Value::as_str).unwrap_or_default() == value,
            },
        },
    }
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number<'a>(object: &'a Value, pointer: &str) -> Cow<'a, str> {
    match object.pointer(pointer) {
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed("0"),
    }
}

fn first<'a>(object: &'a Value, pointers: &[&str]) -> &'a str {
    pointers
        .iter()
        .map(|pointer| text(object, pointer))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_resource;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn pods_are_selected_by_their_fields() {
        let pods = by_resource("", "v1", "pods").unwrap();
        let pod = json!({
            "metadata": {"name": "web-0", "namespace": "default"},
            "spec": {"nodeName": "n1", "restartPolicy": "Always"},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        for text in [
            "",
            "metadata.name=web-0",
            "metadata.namespace==default,spec.nodeName=n1",
            "status.phase!=Failed",
            "spec.hostNetwork=false",
            "status.podIPs=fd00::1",
            "status.nominatedNodeName=",
        ] {
            assert!(parse_fields(pods, text).unwrap().matches(&pod), "{text}");
        }
        assert!(!parse_fields(pods, "spec.nodeName!=n1").unwrap().matches(&pod));
        assert_eq!(parse_fields(pods, "metadata.name=web-0").unwrap().name(), Some("web-0"));
    }

    #[test]
    fn events_are_selected_in_either_form() {
        let core = by_resource("", "v1", "events").unwrap();
        let new = by_resource("events.k8s.io", "v1", "events").unwrap();
        let stored = json!({"involvedObject": {"kind": "Pod", "name": "web-0"}, "source": {"component": "kubelet"}});
        assert!(
            parse_fields(core, "involvedObject.name=web-0,source=kubelet")
                .unwrap()
                .matches(&stored)
        );
        assert!(parse_fields(new, "regarding.kind=Pod").unwrap().matches(&stored));
    }

    #[test]
    fn unknown_fields_and_bad_syntax_in_upstreams_words() {
        let configmaps = by_resource("", "v1", "configmaps").unwrap();
        assert_eq!(
            parse_fields(configmaps, "data.k=v"),
            Err(r#""data.k" is not a known field selector: only "metadata.name", "metadata.namespace""#.to_owned())
        );
        assert_eq!(
            parse_fields(configmaps, "metadata.name"),
            Err("invalid selector: 'metadata.name'; can't understand 'metadata.name'".to_owned())
        );
        let pods = by_resource("", "v1", "pods").unwrap();
        assert_eq!(
            parse_fields(pods, "spec.foo=1"),
            Err("field label not supported: spec.foo".to_owned())
        );
    }

    #[test]
    fn values_may_hold_escaped_separators() {
        let secrets = by_resource("", "v1", "secrets").unwrap();
        let selector = parse_fields(secrets, r"type=a\,b\=c\\").unwrap();
        assert_eq!(selector.terms, [("type".to_owned(), true, r"a,b=c\".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let pods = by_resource("", "v1", "pods").unwrap();
            if let Ok(selector) = parse_fields(pods, &text) {
                selector.matches(&json!({}));
            }
        }
    }
}
