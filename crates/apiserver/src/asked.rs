//! What a request asks for, as rights, counters and the audit log speak of it.

use crate::authz::Action;
use crate::dispatch::is_proxy;
use crate::metrics::Labels;
use crate::path::{Path, ResourcePath};
use crate::query::Query;
use crate::status::{Outcome, method_not_allowed};
use api::kinds;
use http::{Method, header};

/// Subresources whose answers go on for as long as both sides want.
const STREAMS: &[&str] = &["log", "exec", "attach", "portforward", "proxy"];

/// Subresources as counters name them; all others are counted together.
const PARTS: &[&str] = &[
    "status",
    "scale",
    "binding",
    "eviction",
    "finalize",
    "token",
    "approval",
    "ephemeralcontainers",
    "resize",
    "log",
    "exec",
    "attach",
    "portforward",
    "proxy",
];

/// What is done to a resource.
pub(crate) fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Outcome<&'static str> {
    let single = !path.name.is_empty();
    Ok(match *method {
        Method::GET | Method::HEAD if single => "get",
        Method::GET | Method::HEAD if query.flag("watch").unwrap_or(false) => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if single => "delete",
        Method::DELETE => "deletecollection",
        // Proxied requests may be of any method; those without a verb need the right to all verbs.
        _ if is_proxy(&path.group, &path.resource, &path.subresource) => "",
        _ => return Err(method_not_allowed()),
    })
}

/// What a request wants to do, as rights speak of it.
pub(crate) fn action(verb: &str, path: &ResourcePath, query: &Query) -> Action {
    let mut action = Action {
        verb: verb.to_owned(),
        group: path.group.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        ..Action::default()
    };
    // A namespace lies in itself, so that rights in it reach it.
    if action.group.is_empty() && action.resource == "namespaces" {
        action.namespace.clone_from(&action.name);
    }
    if action.name.is_empty()
        && let Some(selector) = query.get("fieldSelector")
    {
        let pairs = selector.split(',').filter(|part| !part.contains("!="));
        let pairs = pairs.filter_map(|part| part.split_once("==").or_else(|| part.split_once('=')));
        let pairs = pairs.map(|(field, value)| (field.trim().to_owned(), value.trim().to_owned()));
        action.fields = pairs.collect();
        // Whoever asks for one object of a collection asks for that object.
        let named = action.fields.iter().find(|(field, _)| field == "metadata.name");
        action.name = named.map_or_else(String::new, |(_, name)| name.clone());
    }
    action
}

/// Whether the answer goes on for as long as both sides want.
pub(crate) fn is_long_running(verb: &str, path: &ResourcePath) -> bool {
    verb == "watch" || STREAMS.contains(&path.subresource.as_str())
}

/// How a request is counted. `verb` is empty for what is no resource.
pub(crate) fn labels(request: &http::request::Parts, path: &Path, verb: &str) -> Labels {
    let mut labels = Labels {
        verb: counted_verb(request, verb),
        group: "",
        version: "",
        resource: "",
        subresource: "",
        scope: "",
        dry_run: request.uri.query().is_some_and(|query| query.contains("dryRun=All")),
    };
    let Path::Resource(path) = path else { return labels };
    // Names of kinds that are served are a bounded set; whatever else is asked for is counted without a name.
    if let Some(kind) = kinds::by_resource(&path.group, &path.version, &path.resource) {
        (labels.group, labels.version, labels.resource) = (kind.group, kind.version, kind.plural);
    }
    if STREAMS.contains(&path.subresource.as_str()) {
        labels.verb = "CONNECT";
    }
    let part = PARTS.iter().find(|part| **part == path.subresource);
    labels.subresource = part.copied().unwrap_or("");
    labels.scope = if !path.name.is_empty() || verb == "create" {
        "resource"
    } else if !path.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    };
    labels
}

fn counted_verb(request: &http::request::Parts, verb: &str) -> &'static str {
    let content_type = request.headers.get(header::CONTENT_TYPE);
    let is_apply = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"));
    match verb {
        "list" => return "LIST",
        "watch" => return "WATCH",
        "deletecollection" => return "DELETECOLLECTION",
        "patch" if is_apply => return "APPLY",
        _ => {}
    }
    match request.method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    fn asked(method: Method, uri: &str) -> (Action, Labels, bool) {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let parsed = path::parse(head.uri.path());
        let Path::Resource(resource) = &parsed else {
            panic!("{uri} is no resource")
        };
        let query = Query::of(&head.uri).unwrap();
        let verb = verb(&head.method, resource, &query).unwrap();
        (
            action(verb, resource, &query),
            labels(&head, &parsed, verb),
            is_long_running(verb, resource),
        )
    }

    #[test]
    fn requests_are_counted_and_judged_by_what_they_ask_for() {
        let (action, labels, long) = asked(Method::GET, "/apis/apps/v1/namespaces/n/statefulsets?watch=true");
        assert_eq!(
            (action.verb.as_str(), labels.verb, labels.scope, long),
            ("watch", "WATCH", "namespace", true)
        );
        let (action, labels, long) = asked(Method::GET, "/api/v1/namespaces/n/pods/p/log");
        assert_eq!((action.verb.as_str(), action.subresource.as_str()), ("get", "log"));
        assert_eq!(
            (labels.verb, labels.subresource, labels.scope, long),
            ("CONNECT", "log", "resource", true)
        );
        let (action, labels, _) = asked(Method::GET, "/api/v1/namespaces/n");
        assert_eq!((action.namespace.as_str(), labels.scope), ("n", "resource"));
        let (_, labels, _) = asked(Method::GET, "/apis/nobody.knows/v1/things");
        assert_eq!((labels.group, labels.resource, labels.verb), ("", "", "LIST"));
    }

    #[test]
    fn selectors_of_fields_narrow_what_is_asked_for() {
        let uri = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dvm,status.phase!%3DFailed";
        let (action, ..) = asked(Method::GET, uri);
        assert!(action.selects("spec.nodeName", "vm"));
        assert!(!action.selects("status.phase", "Failed") && action.name.is_empty());
        let (action, ..) = asked(Method::GET, "/api/v1/nodes?fieldSelector=metadata.name%3D%3Dvm");
        assert_eq!(action.name, "vm");
    }
}
