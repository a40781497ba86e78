//! What is written down of a volume and of a snapshot.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;
use tonic::Status;

/// Longer names are not allowed by the interface.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// How a volume's data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A directory; its size is not enforced.
    Directory,
    /// The image of an ext4 file system.
    Ext4,
    /// The image of a btrfs file system.
    Btrfs,
    /// A device without a file system.
    Block,
}

impl Kind {
    /// Whether the data is one file, which a loop device shows.
    pub(crate) fn is_image(self) -> bool {
        self != Self::Directory
    }

    /// The name of the file system in the image.
    pub(crate) fn file_system(self) -> Option<&'static str> {
        match self {
            Self::Ext4 => Some("ext4"),
            Self::Btrfs => Some("btrfs"),
            Self::Directory | Self::Block => None,
        }
    }

    /// Smaller ones cannot be made.
    pub(crate) fn bytes_min(self) -> i64 {
        const MIB: i64 = 1 << 20;
        match self {
            Self::Directory => 0,
            Self::Block => 4096,
            Self::Ext4 => 4 * MIB,
            Self::Btrfs => 128 * MIB,
        }
    }
}

/// What a volume or snapshot was filled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A snapshot's id.
    Snapshot(String),
    /// A volume's id.
    Volume(String),
}

/// Where a volume was made available to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    /// The mount point, or the file that stands for the device.
    pub(crate) target: PathBuf,
    /// Whether it may not be written there.
    pub(crate) readonly: bool,
    /// Whether nobody else may have it meanwhile.
    pub(crate) alone: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// The name it was asked for by.
    pub(crate) name: String,
    /// How its data is kept.
    pub(crate) kind: Kind,
    /// Its size; 0: of no certain size.
    pub(crate) bytes: i64,
    /// How large the file system in the image is.
    pub(crate) formatted_bytes: i64,
    /// What it was filled from.
    pub(crate) source: Option<Source>,
    /// Made by its publication, and gone with it.
    pub(crate) ephemeral: bool,
    /// Where it was staged.
    pub(crate) staged: Option<PathBuf>,
    /// Where it was published.
    pub(crate) published: Vec<Publication>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The name it was asked for by.
    pub(crate) name: String,
    /// The volume it was taken of.
    pub(crate) volume: String,
    /// How its data is kept.
    pub(crate) kind: Kind,
    /// The size of a volume that is filled from it, at least.
    pub(crate) bytes: i64,
    /// How large the file system in the image is. Older records do not tell; growth that was not due does nothing.
    #[serde(default)]
    pub(crate) formatted_bytes: i64,
    /// When it was taken.
    pub(crate) seconds: i64,
}

/// The id of what is asked for by a name: the name, if it can be a file's.
pub(crate) fn id_of(name: &str) -> Result<String, Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument("a name is required"));
    }
    let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if name.len() > NAME_BYTES_MAX || name.chars().any(is_control) {
        return Err(Status::invalid_argument(
            "a name has at most 128 bytes and no control characters",
        ));
    }
    if is_id(name) && !name.starts_with("sha256-") {
        return Ok(name.to_owned());
    }
    let mut id = "sha256-".to_owned();
    for byte in Sha256::digest(name.as_bytes()) {
        // Writing to a String cannot fail.
        write!(id, "{byte:02x}").ok();
    }
    Ok(id)
}

/// Whether this can be the id of anything; it is a file's name.
pub(crate) fn is_id(id: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    id.len() <= NAME_BYTES_MAX && id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_are_read() {
        let old = r#"{"name":"s","volume":"v","kind":"ext4","bytes":4096,"seconds":1}"#;
        let snapshot: Snapshot = serde_json::from_str(old).unwrap();
        assert_eq!((snapshot.bytes, snapshot.formatted_bytes), (4096, 0));
    }

    #[test]
    fn names_become_ids() {
        assert_eq!(id_of("pvc-1").unwrap(), "pvc-1");
        for strange in ["../up", "a/b", ".hidden", "ü", "a b", "sha256-1"] {
            let id = id_of(strange).unwrap();
            assert!(id.starts_with("sha256-") && is_id(&id), "{strange}: {id}");
        }
        assert_eq!(id_of(&"x".repeat(128)).unwrap().len(), 128);
        for bad in ["", &"x".repeat(129), "a\u{7}b"] {
            assert_eq!(id_of(bad).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        for bad in ["", "..", "a/b", "-a"] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
