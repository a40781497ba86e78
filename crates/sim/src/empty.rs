//! Collections that stay empty: most kinds that there are play no part here, and every life of the controllers begins
//! with a list and a watch of each.
//!
//! These are answered without the API server, which would say the same at a hundred times the price. Should anybody
//! make an object of such a kind after all, the checkers say so.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};

use crate::dawn;
use crate::link::{Answer, BoxError, whole};

/// What somebody in here makes, besides what there is from the beginning.
const MADE: [&str; 13] = [
    "configmaps",
    "controllerrevisions",
    "endpoints",
    "endpointslices",
    "events",
    "leases",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "serviceaccounts",
    "services",
    "statefulsets",
];

/// The plural names of the kinds of which there are objects, or may be.
pub(crate) fn inhabited() -> BTreeSet<String> {
    let first = dawn::kinds().map(str::to_owned);
    first.chain(MADE.map(str::to_owned)).collect()
}

/// The kind of a path that means all objects of a kind, wherever they are.
pub(crate) fn collection(path: &str) -> Option<&str> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let kind = match (parts.next()?, parts.next()?, parts.next()?) {
        ("api", _, kind) => kind,
        ("apis", ..) => parts.next()?,
        _ => return None,
    };
    parts.next().is_none().then_some(kind)
}

/// A list of nothing, or a watch on which nothing happens.
pub(crate) fn answer(is_watch: bool) -> Response<Answer> {
    let body = if is_watch {
        let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        StreamBody::new(never).boxed_unsync()
    } else {
        let revision = dawn::revision();
        whole(Bytes::from(format!(
            "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{revision}\"}},\"items\":[]}}"
        )))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_whole_kinds_are_collections() {
        let expected = [
            ("/api/v1/pods", Some("pods")),
            ("/apis/apps/v1/deployments", Some("deployments")),
            ("/api/v1/namespaces/default/pods", None),
            ("/apis/apps/v1/namespaces/default/deployments", None),
            ("/api/v1/nodes/node-1", None),
            ("/apis/apps", None),
        ];
        for (path, kind) in expected {
            assert_eq!(collection(path), kind, "{path}");
        }
    }
}
