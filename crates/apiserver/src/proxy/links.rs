//! Links of proxied pages and redirects.

/// Where links of an answer lead.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The proxy's own path, without a slash at its end.
    pub(crate) prefix: String,
    /// The backend's host and port.
    pub(crate) backend: String,
    /// The host that the client asked.
    pub(crate) requested: String,
}

impl Links {
    /// A link that leads through the proxy, if it leads to the backend by an absolute path; else as it is.
    pub(crate) fn through(&self, link: &str) -> String {
        let (origin, host, path) = parts(link);
        let is_elsewhere = !host.is_empty() && host != self.backend && host != self.requested;
        if is_elsewhere || !path.starts_with('/') {
            return link.to_owned();
        }
        // The client's own name for this server is right; the backend's address is none of its business.
        let origin = if !host.is_empty() && host == self.requested {
            origin
        } else {
            ""
        };
        if path.starts_with(&self.prefix) {
            return format!("{origin}{path}");
        }
        format!("{origin}{}{path}", self.prefix)
    }
}

/// The origin (`scheme://host`), its host, and the rest of a link.
fn parts(link: &str) -> (&str, &str, &str) {
    let is_scheme = |text: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let host_at = match link.find("//") {
        Some(0) => 2,
        Some(at) if link[..at].strip_suffix(':').is_some_and(is_scheme) => at + 2,
        _ => return ("", "", link),
    };
    let end = link[host_at..]
        .find(['/', '?', '#'])
        .map_or(link.len(), |end| host_at + end);
    (&link[..end], &link[host_at..end], &link[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_backend_lead_through_the_proxy() {
        let links = Links {
            prefix: "/p/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            requested: "api:6443".to_owned(),
        };
        for (link, expected) in [
            ("/a/b/?x", "/p/proxy/a/b/?x"),
            ("http://10.0.0.1:80/a", "/p/proxy/a"),
            ("//10.0.0.1:80/a", "/p/proxy/a"),
            ("https://api:6443/a", "https://api:6443/p/proxy/a"),
            ("/p/proxy/a", "/p/proxy/a"),
            ("a/b", "a/b"),
            ("#x", "#x"),
            ("https://example.com/a", "https://example.com/a"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("mailto:a@b", "mailto:a@b"),
        ] {
            assert_eq!(links.through(link), expected);
        }
    }
}
