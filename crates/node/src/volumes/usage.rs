//! What lies in a volume.

use api::k8s::api::core::v1::Volume;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bytes and inodes below a folder, on its own file system; a file with several names counts once.
pub(crate) fn of(folder: &Path) -> (u64, u64) {
    let Ok(metadata) = fs::symlink_metadata(folder) else {
        return (0, 0);
    };
    let device = metadata.dev();
    let (mut bytes, mut inodes) = (metadata.blocks() * 512, 1);
    let mut seen = HashSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // What vanishes meanwhile uses nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let is_new = metadata.nlink() <= 1 || metadata.is_dir() || seen.insert(metadata.ino());
            if metadata.dev() != device || !is_new {
                continue;
            }
            bytes += metadata.blocks() * 512;
            inodes += 1;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

/// Whether a volume is on the node's disk and goes with its pod.
pub(crate) fn is_on_disk(volume: &Volume) -> bool {
    let in_memory = volume
        .empty_dir
        .as_ref()
        .is_some_and(|e| e.medium.as_deref().is_some_and(|m| !m.is_empty()));
    let is_plain = volume.config_map.is_some() || volume.downward_api.is_some();
    (volume.empty_dir.is_some() && !in_memory) || is_plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("d")).expect("made");
        fs::write(dir.path().join("d/a"), vec![1; 64 * 1024]).expect("written");
        fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).expect("linked");
        let (bytes, inodes) = of(dir.path());
        assert_eq!(inodes, 3);
        assert!((64 * 1024..128 * 1024).contains(&bytes), "{bytes}");
        assert_eq!(of(&dir.path().join("nowhere")), (0, 0));
    }
}
