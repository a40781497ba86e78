//! Names of images, normalised as everyone does: `busybox` is `docker.io/library/busybox:latest`.

use super::Error;

/// A normalised name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The registry's host and port.
    pub(crate) registry: String,
    /// The path in the registry.
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Reads a name as people write it.
    ///
    /// # Errors
    /// If it is not one.
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Name {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return Err(fail("the digest is not sha256: and 64 lower-case hexadecimal digits"));
        }
        // A colon in the last component begins the tag; an earlier one belongs to the registry's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "the tag may hold letters, digits, '_', '.' and '-', 128 of them at most",
            ));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (host, repository),
            _ => ("docker.io", path),
        };
        let registry = if registry == "index.docker.io" {
            "docker.io"
        } else {
            registry
        };
        if repository.is_empty() || !repository.split('/').all(is_component) {
            return Err(fail(
                "a repository is made of lower-case letters and digits, with '.', '_', '-' between and '/' as separator",
            ));
        }
        let official = registry == "docker.io" && !repository.contains('/');
        let repository = if official {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Registry and repository.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The full name with its tag, if it has one.
    pub(crate) fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.place()))
    }

    /// Whether the registry is on this machine, where nobody uses TLS.
    pub(crate) fn is_local(&self) -> bool {
        let host = self
            .registry
            .rsplit_once(':')
            .map_or(self.registry.as_str(), |(host, _)| host);
        host == "localhost"
            || host == "[::1]"
            || host
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is a digest of the one kind in use.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    !bytes.is_empty()
        && word(bytes[0])
        && word(bytes[bytes.len() - 1])
        && bytes
            .iter()
            .all(|&byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            (
                &format!("busybox@{digest}"),
                &format!("docker.io/library/busybox@{digest}"),
            ),
            (&format!("a.b/c:t@{digest}"), &format!("a.b/c:t@{digest}")),
        ] {
            assert_eq!(Reference::parse(name).expect(name).to_string(), expected);
        }
        for name in [
            "",
            "UPPER",
            "a b",
            "busybox:",
            "busybox:-x",
            "a@sha256:1",
            "/x",
            "x/",
            "localhost/",
            "-a",
        ] {
            assert!(Reference::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for (name, local) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:1/a", true),
            ("[::1]:5/a", true),
            ("a.b/c", false),
            ("10.0.0.1:5000/c", false),
        ] {
            assert_eq!(Reference::parse(name).expect(name).is_local(), local, "{name}");
        }
    }
}
