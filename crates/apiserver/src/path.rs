//! What a path asks for: a document of the server, or an object, collection or subresource of a kind.

/// The meaning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/api/VERSION/…` or `/apis/GROUP/VERSION/…` with a resource.
    Resource(ResourcePath),
    /// Anything else, without a trailing slash.
    Document(String),
}

/// A resource as a path names it; absent parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// Reads a path.
pub(crate) fn parse(path: &str) -> Path {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Path::Document(format!("/{}", parts.join("/"))),
    };
    let (namespace, rest) = match rest {
        // `namespaces/x` and its subresources are the namespace itself, `namespaces/x/pods` lies in it.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        _ => ("", rest),
    };
    let part = |index: usize| rest.get(index).map_or_else(String::new, |part| (*part).to_owned());
    // What follows is for whatever runs behind the object.
    let is_proxy = group.is_empty() && rest.get(2) == Some(&"proxy");
    if rest.len() > 3 && !is_proxy {
        return Path::Document(format!("/{}", parts.join("/")));
    }
    Path::Resource(ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: part(0),
        name: part(1),
        subresource: part(2),
    })
}

/// Undoes percent encoding; what is not encoded properly stays as it is.
pub(crate) fn decode(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> [String; 6] {
        match parse(path) {
            Path::Resource(r) => [r.group, r.version, r.namespace, r.resource, r.name, r.subresource],
            Path::Document(document) => panic!("{document} is a document"),
        }
    }

    #[test]
    fn paths_name_resources() {
        let check = |path: &str, expected: [&str; 6]| assert_eq!(resource(path), expected.map(str::to_owned), "{path}");
        check("/api/v1/pods", ["", "v1", "", "pods", "", ""]);
        check("/api/v1/namespaces", ["", "v1", "", "namespaces", "", ""]);
        check("/api/v1/namespaces/a", ["", "v1", "", "namespaces", "a", ""]);
        check(
            "/api/v1/namespaces/a/finalize",
            ["", "v1", "", "namespaces", "a", "finalize"],
        );
        check("/api/v1/namespaces/a/pods/p/log", ["", "v1", "a", "pods", "p", "log"]);
        check(
            "/apis/apps/v1/namespaces/a/statefulsets",
            ["apps", "v1", "a", "statefulsets", "", ""],
        );
        check("/api/v1/nodes/a%20b", ["", "v1", "", "nodes", "a b", ""]);
    }

    #[test]
    fn everything_else_is_a_document() {
        for path in ["/api", "/apis/apps/v1", "/version", "/openapi/v3/api/v1", "/"] {
            assert_eq!(parse(path), Path::Document(path.to_owned()));
        }
        assert_eq!(parse("/apis/apps/"), Path::Document("/apis/apps".to_owned()));
    }
}
