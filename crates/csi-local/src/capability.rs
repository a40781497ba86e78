//! What callers ask of a volume, checked: access, size, place, parameters.

use crate::volume::{Kind, Volume};
use crate::{DRIVER, TOPOLOGY};
use csi::v1::volume_capability::AccessType;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::{CapacityRange, Topology, TopologyRequirement, VolumeCapability};
use std::collections::HashMap;
use tonic::Status;

/// The size of an image that nobody asked a size for.
const BYTES_DEFAULT: i64 = 1 << 30;
/// Sizes are multiples of it.
const BLOCK_BYTES: i64 = 4096;

/// What is asked of the data by capabilities and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This kind.
    Kind(Kind),
    /// Any kind with a file system; a directory unless it is a copy of something.
    AnyFileSystem,
}

impl Wanted {
    /// The kind to make; `source` is the kind of what is copied.
    pub(crate) fn kind(self, source: Option<Kind>) -> Result<Kind, Status> {
        let kind = match (self, source) {
            (Self::Kind(kind), _) => kind,
            (Self::AnyFileSystem, Some(source)) if source != Kind::Block => source,
            (Self::AnyFileSystem, _) => Kind::Directory,
        };
        match source {
            Some(source) if source != kind => Err(Status::invalid_argument(
                "a volume is of the same kind as what it is filled from",
            )),
            _ => Ok(kind),
        }
    }

    /// Whether a volume that is there already would do.
    pub(crate) fn is_met_by(self, kind: Kind) -> bool {
        match self {
            Self::Kind(wanted) => wanted == kind,
            Self::AnyFileSystem => kind != Kind::Block,
        }
    }
}

/// Reads capabilities and parameters.
pub(crate) fn wanted(
    capabilities: &[VolumeCapability],
    parameters: &HashMap<String, String>,
) -> Result<Wanted, Status> {
    let refused = |why: String| Err(Status::invalid_argument(why));
    if capabilities.is_empty() {
        return refused("volume capabilities are required".into());
    }
    let (mut blocks, mut file_systems) = (false, Vec::new());
    for capability in capabilities {
        check(capability)?;
        match &capability.access_type {
            Some(AccessType::Mount(mount)) => file_systems.push(mount.fs_type.as_str()),
            _ => blocks = true,
        }
    }
    if blocks && !file_systems.is_empty() {
        return refused("a volume is a block device or has a file system, not both".into());
    }
    for name in parameters.keys() {
        // What provisioners add to tell of objects of theirs.
        if name != "fs" && !name.starts_with("csi.storage.k8s.io/") {
            return refused(format!("{DRIVER} knows no parameter {name:?}"));
        }
    }
    let of_capability = file_systems.into_iter().find(|name| !name.is_empty());
    let name = parameters.get("fs").map(String::as_str).or(of_capability);
    match (blocks, name) {
        (true, _) => Ok(Wanted::Kind(Kind::Block)),
        (false, None | Some("")) => Ok(Wanted::AnyFileSystem),
        (false, Some("directory")) => Ok(Wanted::Kind(Kind::Directory)),
        (false, Some("ext4")) => Ok(Wanted::Kind(Kind::Ext4)),
        (false, Some("btrfs")) => Ok(Wanted::Kind(Kind::Btrfs)),
        (false, Some(other)) => refused(format!(
            "{DRIVER} makes no file system {other:?}: directory, ext4 and btrfs"
        )),
    }
}

/// Whether one capability makes sense. All modes can be had, for all who may use the volume are on its node.
pub(crate) fn check(capability: &VolumeCapability) -> Result<Mode, Status> {
    let mode = capability
        .access_mode
        .as_ref()
        .map(csi::v1::volume_capability::AccessMode::mode);
    match (mode, &capability.access_type) {
        (None | Some(Mode::Unknown), _) => Err(Status::invalid_argument("an access mode is required")),
        (_, None) => Err(Status::invalid_argument("an access type, block or mount, is required")),
        (Some(mode), Some(_)) => Ok(mode),
    }
}

/// Checks that a volume can be used as one capability says.
pub(crate) fn check_use(volume: &Volume, capability: Option<&VolumeCapability>) -> Result<Mode, Status> {
    let capability = capability.ok_or_else(|| Status::invalid_argument("a volume capability is required"))?;
    let mode = check(capability)?;
    let is_block = matches!(capability.access_type, Some(AccessType::Block(_)));
    if is_block != (volume.kind == Kind::Block) {
        let what = if is_block { "no block device" } else { "a block device" };
        return Err(Status::invalid_argument(format!("the volume is {what}")));
    }
    Ok(mode)
}

/// The mount flags of a capability.
pub(crate) fn mount_flags(capability: Option<&VolumeCapability>) -> &[String] {
    match capability.and_then(|c| c.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) => &mount.mount_flags,
        _ => &[],
    }
}

/// The size to make; `least` is that of what is copied.
pub(crate) fn size(kind: Kind, range: Option<&CapacityRange>, least: i64) -> Result<i64, Status> {
    let range = range.copied().unwrap_or_default();
    check_range(&range)?;
    let default = match (kind, least) {
        (Kind::Directory, _) | (_, 1..) => least,
        _ if range.limit_bytes > 0 => range.limit_bytes.min(BYTES_DEFAULT),
        _ => BYTES_DEFAULT,
    };
    let asked = if range.required_bytes > 0 {
        range.required_bytes
    } else {
        default
    };
    let bytes = rounded(kind, asked.max(least).max(kind.bytes_min()))?;
    if range.limit_bytes > 0 && bytes > range.limit_bytes {
        return Err(Status::out_of_range(format!(
            "the volume would have {bytes} bytes, which is more than the limit"
        )));
    }
    Ok(bytes)
}

fn rounded(kind: Kind, bytes: i64) -> Result<i64, Status> {
    if !kind.is_image() {
        return Ok(bytes);
    }
    bytes
        .checked_add(BLOCK_BYTES - 1)
        .map(|sum| sum / BLOCK_BYTES * BLOCK_BYTES)
        .ok_or_else(|| Status::out_of_range("the size is too large"))
}

/// Whether a range makes sense.
pub(crate) fn check_range(range: &CapacityRange) -> Result<(), Status> {
    if range.required_bytes < 0 || range.limit_bytes < 0 {
        return Err(Status::invalid_argument("sizes are not negative"));
    }
    if range.limit_bytes > 0 && range.required_bytes > range.limit_bytes {
        return Err(Status::out_of_range("more bytes are required than the limit allows"));
    }
    Ok(())
}

/// Whether a size satisfies a range.
pub(crate) fn is_within(bytes: i64, range: Option<&CapacityRange>) -> bool {
    range.is_none_or(|r| bytes >= r.required_bytes && (r.limit_bytes == 0 || bytes <= r.limit_bytes))
}

/// The place of everything this driver has.
pub(crate) fn topology(node_id: &str) -> Topology {
    Topology {
        segments: HashMap::from([(TOPOLOGY.to_owned(), node_id.to_owned())]),
    }
}

/// Whether a place is, or contains, this node.
pub(crate) fn is_here(topology: &Topology, node_id: &str) -> bool {
    topology
        .segments
        .iter()
        .all(|(key, value)| key == TOPOLOGY && value == node_id)
}

/// Whether a volume of this node may be made for these requirements.
pub(crate) fn check_place(requirement: Option<&TopologyRequirement>, node_id: &str) -> Result<(), Status> {
    let wanted = requirement.map(|r| r.requisite.as_slice()).unwrap_or_default();
    if wanted.is_empty() || wanted.iter().any(|topology| is_here(topology, node_id)) {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "volumes are made on node {node_id} only"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let range = |required_bytes, limit_bytes| CapacityRange {
            required_bytes,
            limit_bytes,
        };
        let check = |kind, range: Option<CapacityRange>, least, expected| {
            let size = size(kind, range.as_ref(), least);
            assert_eq!(size.map_err(|e| e.code()), expected, "{kind:?} {range:?} {least}");
        };
        let mib = 1 << 20;
        check(Kind::Directory, None, 0, Ok(0));
        check(Kind::Directory, Some(range(5, 0)), 0, Ok(5));
        check(Kind::Ext4, None, 0, Ok(1 << 30));
        check(Kind::Ext4, Some(range(0, 64 * mib)), 0, Ok(64 * mib));
        check(Kind::Ext4, Some(range(64 * mib + 1, 0)), 0, Ok(64 * mib + 4096));
        check(Kind::Ext4, Some(range(1, 0)), 0, Ok(4 * mib));
        check(Kind::Ext4, None, 64 * mib, Ok(64 * mib));
        check(Kind::Ext4, Some(range(1, mib)), 0, Err(tonic::Code::OutOfRange));
        check(Kind::Btrfs, Some(range(mib, 0)), 0, Ok(128 * mib));
        check(Kind::Block, Some(range(2, 1)), 0, Err(tonic::Code::OutOfRange));
        check(Kind::Block, Some(range(-1, 0)), 0, Err(tonic::Code::InvalidArgument));
        check(Kind::Ext4, Some(range(i64::MAX, 0)), 0, Err(tonic::Code::OutOfRange));
    }
}
