//! Volumes of each kind from their making to their end, every call made twice.

use crate::running::{Driver, MIB, capability, code, create, is_root};
use csi::v1;
use csi::v1::volume_capability::AccessMode;
use csi::v1::volume_capability::access_mode::Mode;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use tonic::Code;

async fn whole_life(kind: &str, bytes: i64) {
    let mut driver = Driver::start().await;
    let volume = driver.create("v", kind, bytes).await;
    assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), ("v", bytes));
    let place = &volume.accessible_topology[0].segments;
    assert_eq!(place.get(csi_local::TOPOLOGY).map(String::as_str), Some("n1"));
    assert_eq!(driver.create("v", kind, bytes).await, volume);
    let other = driver.controller.create_volume(create("v", kind, bytes * 2)).await;
    assert!(code(other) == Code::AlreadyExists);

    driver.mount("v", kind).await;
    let target = driver.mount("v", kind).await;
    write_and_read(&target, kind);
    assert!(driver.bytes_at("v", target.to_str().unwrap()).await.unwrap() > 0);
    let in_use = v1::DeleteVolumeRequest {
        volume_id: "v".into(),
        ..Default::default()
    };
    assert_eq!(
        code(driver.controller.delete_volume(in_use).await),
        Code::FailedPrecondition
    );

    // A second place, read-only.
    let mut second = driver.publish("v", kind);
    second.target_path = driver.path("second");
    second.readonly = true;
    driver.node.node_publish_volume(second.clone()).await.unwrap();
    if kind != "block" {
        let refused = std::fs::write(Path::new(&second.target_path).join("f"), "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    second.readonly = false;
    assert_eq!(
        code(driver.node.node_publish_volume(second.clone()).await),
        Code::AlreadyExists
    );
    let request = v1::NodeUnpublishVolumeRequest {
        volume_id: "v".into(),
        target_path: second.target_path.clone(),
    };
    driver.node.node_unpublish_volume(request).await.unwrap();
    assert!(!Path::new(&second.target_path).exists());

    // All that is known is on the disk and in the kernel.
    let mut driver = driver.restart().await;
    driver.mount("v", kind).await;
    driver.unmount("v").await;
    driver.unmount("v").await;
    assert!(!target.exists());
    assert_eq!(
        driver.bytes_at("v", target.to_str().unwrap()).await.unwrap_err().code(),
        Code::NotFound
    );
    driver.delete("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

fn write_and_read(target: &Path, kind: &str) {
    if kind == "block" {
        assert!(std::fs::metadata(target).unwrap().file_type().is_block_device());
        let mut device = std::fs::OpenOptions::new().write(true).open(target).unwrap();
        device.write_all(b"inside").unwrap();
        device.sync_all().unwrap();
        let mut bytes = [0; 6];
        std::fs::File::open(target).unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"inside");
    } else {
        std::fs::write(target.join("f"), "inside").unwrap();
        assert_eq!(std::fs::read_to_string(target.join("f")).unwrap(), "inside");
    }
}

#[tokio::test]
async fn a_directory() {
    if is_root() {
        whole_life("directory", 8 * MIB).await;
    }
}

#[tokio::test]
async fn an_ext4_file_system() {
    if is_root() {
        whole_life("ext4", 8 * MIB).await;
    }
}

#[tokio::test]
async fn a_btrfs_file_system() {
    if is_root() {
        whole_life("btrfs", 128 * MIB).await;
    }
}

#[tokio::test]
async fn a_block_device() {
    if is_root() {
        whole_life("block", 8 * MIB).await;
    }
}

#[tokio::test]
async fn a_single_writer_has_no_second_place() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "directory", MIB).await;
    let alone = |mut request: v1::NodePublishVolumeRequest| {
        let mut capability = capability("directory");
        capability.access_mode = Some(AccessMode {
            mode: Mode::SingleNodeSingleWriter.into(),
        });
        request.volume_capability = Some(capability);
        request
    };
    driver
        .node
        .node_stage_volume(driver.stage("v", "directory"))
        .await
        .unwrap();
    let first = alone(driver.publish("v", "directory"));
    driver.node.node_publish_volume(first.clone()).await.unwrap();
    driver.node.node_publish_volume(first).await.unwrap();
    let mut second = alone(driver.publish("v", "directory"));
    second.target_path = driver.path("second");
    assert_eq!(
        code(driver.node.node_publish_volume(second).await),
        Code::FailedPrecondition
    );
    driver.unmount("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn an_ephemeral_volume_goes_with_its_publication() {
    if !is_root() {
        return;
    }
    for kind in ["directory", "ext4"] {
        let mut driver = Driver::start().await;
        for readonly in [true, false] {
            let mut request = driver.publish_ephemeral("csi-1", kind);
            request.readonly = readonly;
            driver.node.node_publish_volume(request.clone()).await.unwrap();
            driver.node.node_publish_volume(request).await.unwrap();
            if readonly {
                let refused = std::fs::write(Path::new(&driver.path("target")).join("f"), "x").unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{kind}");
                let request = v1::NodeUnpublishVolumeRequest {
                    volume_id: "csi-1".into(),
                    target_path: driver.path("target"),
                };
                driver.node.node_unpublish_volume(request).await.unwrap();
            }
        }
        write_and_read(Path::new(&driver.path("target")), kind);
        let request = v1::NodeUnpublishVolumeRequest {
            volume_id: "csi-1".into(),
            target_path: driver.path("target"),
        };
        driver.node.node_unpublish_volume(request.clone()).await.unwrap();
        driver.node.node_unpublish_volume(request).await.unwrap();
        let left = driver
            .controller
            .list_volumes(v1::ListVolumesRequest::default())
            .await
            .unwrap();
        assert!(left.into_inner().entries.is_empty());
        driver.stop().await;
    }
}

#[tokio::test]
async fn a_place_that_was_to_be_read_only_and_is_not_yet_is_made_anew() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "directory", 0).await;
    driver
        .node
        .node_stage_volume(driver.stage("v", "directory"))
        .await
        .unwrap();
    let mut request = driver.publish("v", "directory");
    request.readonly = true;
    driver.node.node_publish_volume(request.clone()).await.unwrap();
    // As it is between the two steps of a read-only mount.
    let done = std::process::Command::new("mount")
        .args(["-o", "remount,bind,rw", &request.target_path])
        .status();
    assert!(done.unwrap().success());
    std::fs::write(Path::new(&request.target_path).join("f"), "x").unwrap();
    driver.node.node_publish_volume(request.clone()).await.unwrap();
    let refused = std::fs::write(Path::new(&request.target_path).join("f"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    driver.unmount("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn what_was_held_still_when_the_driver_was_killed_goes_on() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "ext4", 8 * MIB).await;
    let target = driver.mount("v", "ext4").await;
    let done = std::process::Command::new("fsfreeze")
        .arg("--freeze")
        .arg(&target)
        .status();
    assert!(done.unwrap().success());
    let mut driver = driver.restart().await;
    let written = tokio::task::spawn_blocking(move || std::fs::write(target.join("f"), "x"));
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, written).await.unwrap().unwrap().unwrap();
    driver.unmount("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn only_root_reads_volumes_past_their_mounts() {
    if !is_root() {
        return;
    }
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut driver = Driver::start().await;
    let root = driver.path("data");
    assert_eq!(mode(&root), 0o700);
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    driver = driver.restart().await;
    assert_eq!(mode(&root), 0o700);

    driver.create("image", "block", MIB).await;
    assert_eq!(mode(&driver.path("data/volumes/image/image")), 0o600);
    // Pods of any user come in by the mount.
    driver.create("v", "directory", MIB).await;
    let target = driver.mount("v", "directory").await;
    std::fs::write(target.join("f"), "inside").unwrap();
    let cat = std::process::Command::new("cat")
        .arg(target.join("f"))
        .uid(65534)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&cat.stdout), "inside");
    driver.unmount("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn one_driver_at_a_time_has_a_directory() {
    if !is_root() {
        return;
    }
    let driver = Driver::start().await;
    let making = driver.path("data/volumes/.making/v");
    std::fs::create_dir(&making).unwrap();
    let config = csi_local::Config {
        socket: driver.path("other.sock").into(),
        data_dir: driver.path("data").into(),
        node_id: "n1".into(),
        registration: None,
    };
    let refused = csi_local::serve(config, Default::default()).await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.starts_with("another driver is at work in /"), "{why}");
    assert!(Path::new(&making).exists());
    driver.restart().await.stop().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_harms_no_other_volume() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("ill", "directory", MIB).await;
    driver.create("well", "directory", MIB).await;
    let record = driver.path("data/volumes/ill/record.json");
    std::fs::write(&record, "{").unwrap();
    let mut driver = driver.restart().await;
    let list = v1::ListVolumesRequest::default();
    let listed = driver.controller.list_volumes(list).await.unwrap().into_inner();
    let ids = listed.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id);
    assert_eq!(ids.collect::<Vec<_>>(), ["well"]);
    let request = v1::DeleteVolumeRequest {
        volume_id: "ill".into(),
        ..Default::default()
    };
    assert_eq!(code(driver.controller.delete_volume(request).await), Code::Internal);
    assert!(Path::new(&driver.path("data/volumes/ill/data")).exists());
    driver.delete("well").await;
    driver.stop().await;
}

/// Mounts a file system with one file below a path.
fn mount_foreign(at: &Path) -> PathBuf {
    std::fs::create_dir_all(at).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, None::<&str>).unwrap();
    let file = at.join("foreign");
    std::fs::write(&file, "kept").unwrap();
    file
}

#[tokio::test]
async fn what_is_mounted_in_a_volume_outlives_it() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "directory", MIB).await;
    let point = PathBuf::from(driver.path("data/volumes/v/data/below"));
    let file = mount_foreign(&point);
    let request = v1::DeleteVolumeRequest {
        volume_id: "v".into(),
        ..Default::default()
    };
    let refused = driver.controller.delete_volume(request).await;
    assert_eq!(code(refused), Code::FailedPrecondition);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    nix::mount::umount(&point).unwrap();
    driver.delete("v").await;

    // What a killed driver left is removed without going through mounts, too.
    let point = PathBuf::from(driver.path("data/volumes/.going/w/data/below"));
    let other = PathBuf::from(driver.path("data/volumes/.going/x"));
    std::fs::create_dir_all(&other).unwrap();
    let file = mount_foreign(&point);
    let driver = driver.restart().await;
    assert!(!other.exists());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    nix::mount::umount(&point).unwrap();
    driver.stop().await;
}
