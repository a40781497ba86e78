//! Manifests, indexes and configurations, in the forms of OCI and of Docker, which are the same in what we read.

use serde::{Deserialize, Serialize};

use super::Error;

/// What we ask registries for.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
}

/// A manifest or an index.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Document {
    Index {
        manifests: Vec<Descriptor>,
    },
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// The part of an image's configuration that decides how its containers run, and what the layers are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) config: Option<Defaults>,
    pub(crate) rootfs: Layers,
}

/// Defaults for the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Defaults {
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) working_dir: String,
    #[serde(default)]
    pub(crate) stop_signal: String,
    /// Paths that should be volumes; Kubernetes ignores them, and so do we.
    #[serde(default)]
    pub(crate) volumes: Option<serde_json::Value>,
}

/// The digests of the unpacked layers, lowest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Layers {
    #[serde(default)]
    pub(crate) diff_ids: Vec<String>,
}

impl ImageConfig {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| unusable("the image's configuration", &error))
    }
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| unusable("the image's manifest", &error))
    }
}

/// The manifest of an index that fits this machine best.
pub(super) fn for_this_machine(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
        None => false,
    };
    let variant = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .and_then(|platform| platform.variant.clone())
    };
    // A variant may be newer than this processor; the plain entry never is.
    let plain = manifests
        .iter()
        .filter(fits)
        .find(|descriptor| variant(descriptor).is_none_or(|variant| variant == "v8"));
    let only = if manifests.len() == 1 && manifests[0].platform.is_none() {
        manifests.first()
    } else {
        None
    };
    plain.or_else(|| manifests.iter().find(fits)).or(only)
}

/// This machine's architecture, in Go's words.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

pub(super) fn unusable(what: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Content {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fitting_manifest_is_chosen() {
        let index = serde_json::json!({"manifests": [
            {"digest": "a", "platform": {"os": "windows", "architecture": architecture()}},
            {"digest": "b", "platform": {"os": "linux", "architecture": "s390x"}},
            {"digest": "c", "platform": {"os": "linux", "architecture": architecture(), "variant": "v3"}},
            {"digest": "d", "platform": {"os": "linux", "architecture": architecture()}},
        ]});
        let Ok(Document::Index { manifests }) = Document::parse(index.to_string().as_bytes()) else {
            panic!("an index")
        };
        assert_eq!(for_this_machine(&manifests).expect("one fits").digest, "d");
        assert!(for_this_machine(&manifests[..2]).is_none());
    }
}
