//! Image names, and whether an image must be pulled.

/// An image name that a runtime can look for: with a tag or digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName(pub String);

/// What to do for an image before a container is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageAction {
    /// It is here.
    Use,
    /// Pull it.
    Pull,
    /// It is not here and must not be pulled.
    NeverPull,
}

/// Reads an image name, adding `:latest` where it has neither tag nor digest.
///
/// # Errors
/// Upstream's words for a name that is none.
pub fn parse_image(text: &str) -> Result<ImageName, String> {
    let invalid = |why: &str| {
        format!("Failed to apply default image tag \"{text}\": couldn't parse image name \"{text}\": {why}")
    };
    let format = "invalid reference format";
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let last_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name.get(last_slash..).and_then(|last| last.find(':')) {
        Some(at) => (&name[..last_slash + at], Some(&name[last_slash + at + 1..])),
        None => (name, None),
    };
    if path.is_empty() || !is_path(path) || tag.is_some_and(|t| !is_tag(t)) || digest.is_some_and(|d| !is_digest(d)) {
        let upper = path.chars().any(|c| c.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase());
        let why = if upper {
            format!("{format}: repository name must be lowercase")
        } else {
            format.to_owned()
        };
        return Err(invalid(&why));
    }
    Ok(ImageName(if tag.is_none() && digest.is_none() {
        format!("{text}:latest")
    } else {
        text.to_owned()
    }))
}

fn is_path(path: &str) -> bool {
    let mut parts = path.split('/').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        // The first of several parts may be a host with a port.
        let is_host = first && parts.peek().is_some() && (part.contains(['.', ':']) || part == "localhost");
        first = false;
        let fine = if is_host {
            is_host_name(part)
        } else {
            is_component(part)
        };
        if !fine {
            return false;
        }
    }
    true
}

fn is_host_name(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
    let name_fine = name.starts_with('[') && name.ends_with(']')
        || (!name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')));
    name_fine && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
}

fn is_component(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(part.chars().next())
        && edge(part.chars().last())
        && part
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

/// The pull policy: the container's, else by the tag.
pub fn resolve_policy<'a>(policy: Option<&'a str>, image: &ImageName) -> &'a str {
    match policy {
        Some(policy) if !policy.is_empty() => policy,
        _ if image.0.ends_with(":latest") => "Always",
        _ => "IfNotPresent",
    }
}

/// What to do for an image under a policy.
pub fn image_action(policy: &str, is_present: bool) -> ImageAction {
    match (policy, is_present) {
        ("Always", _) => ImageAction::Pull,
        (_, true) => ImageAction::Use,
        ("Never", false) => ImageAction::NeverPull,
        (_, false) => ImageAction::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let good = |text: &str, expected: &str| assert_eq!(parse_image(text), Ok(ImageName(expected.into())), "{text}");
        good("nginx", "nginx:latest");
        good("nginx:1.27", "nginx:1.27");
        good("localhost:5000/a/b", "localhost:5000/a/b:latest");
        good("127.0.0.1:5000/web:v2", "127.0.0.1:5000/web:v2");
        good("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10");
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        good(&digest, &digest);
        for bad in [
            "",
            "Nginx",
            "a b",
            "nginx:",
            "/nginx",
            "nginx@sha256:12",
            "nginx:a/b:c:d",
            "http://x",
        ] {
            assert!(parse_image(bad).is_err(), "{bad}");
        }
        assert!(
            parse_image("FOO")
                .unwrap_err()
                .ends_with("repository name must be lowercase")
        );
    }

    #[test]
    fn policies() {
        assert_eq!(resolve_policy(None, &ImageName("a:latest".into())), "Always");
        assert_eq!(resolve_policy(None, &ImageName("a:1".into())), "IfNotPresent");
        assert_eq!(image_action("Always", true), ImageAction::Pull);
        assert_eq!(image_action("IfNotPresent", true), ImageAction::Use);
        assert_eq!(image_action("IfNotPresent", false), ImageAction::Pull);
        assert_eq!(image_action("Never", false), ImageAction::NeverPull);
    }
}
