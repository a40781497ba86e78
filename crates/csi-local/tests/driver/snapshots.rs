//! Snapshots and clones of volumes that are in use.

use crate::running::{Driver, MIB, code, create, is_root};
use csi::v1;
use csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tonic::Code;

fn from(source: Type) -> Option<v1::VolumeContentSource> {
    Some(v1::VolumeContentSource { r#type: Some(source) })
}

fn of_snapshot(id: &str) -> Option<v1::VolumeContentSource> {
    from(Type::Snapshot(SnapshotSource { snapshot_id: id.into() }))
}

fn of_volume(id: &str) -> Option<v1::VolumeContentSource> {
    from(Type::Volume(VolumeSource { volume_id: id.into() }))
}

async fn moments(kind: &str, bytes: i64) {
    let mut driver = Driver::start().await;
    driver.create("v", kind, bytes).await;
    let target = driver.mount("v", kind).await;
    std::fs::write(target.join("f"), "then").unwrap();
    let take = v1::CreateSnapshotRequest {
        source_volume_id: "v".into(),
        name: "s".into(),
        ..Default::default()
    };
    let snapshot = driver
        .controller
        .create_snapshot(take.clone())
        .await
        .unwrap()
        .into_inner();
    let snapshot = snapshot.snapshot.unwrap();
    assert!(snapshot.ready_to_use && snapshot.size_bytes == bytes && snapshot.source_volume_id == "v");
    std::fs::write(target.join("f"), "now").unwrap();
    let again = driver.controller.create_snapshot(take).await.unwrap().into_inner();
    assert_eq!(again.snapshot.unwrap(), snapshot);

    let mut restored = create("restored", kind, bytes * 2);
    restored.volume_content_source = of_snapshot("s");
    let restored = driver.controller.create_volume(restored).await.unwrap().into_inner();
    let restored = restored.volume.unwrap();
    assert_eq!(
        (restored.capacity_bytes, restored.content_source),
        (bytes * 2, of_snapshot("s"))
    );
    let mut clone = create("clone", kind, bytes);
    clone.volume_content_source = of_volume("v");
    // What says nothing of a file system has that of its source.
    clone.parameters.clear();
    driver.controller.create_volume(clone).await.unwrap();
    let mut small = create("small", kind, bytes);
    small.capacity_range = Some(v1::CapacityRange {
        required_bytes: 0,
        limit_bytes: bytes / 2,
    });
    small.volume_content_source = of_volume("v");
    assert_eq!(code(driver.controller.create_volume(small).await), Code::OutOfRange);

    // Beside the original, which stays mounted.
    for (id, expected) in [("restored", "then"), ("clone", "now")] {
        let mut stage = driver.stage(id, kind);
        stage.staging_target_path = driver.path(id);
        driver.node.node_stage_volume(stage).await.unwrap();
        let read = std::fs::read_to_string(std::path::Path::new(&driver.path(id)).join("f"));
        assert_eq!(read.unwrap(), expected, "{id}");
        if id == "restored" && kind != "directory" {
            let bytes_now = driver.bytes_at(id, &driver.path(id)).await.unwrap();
            assert!(bytes_now > bytes + bytes / 2, "{bytes_now}");
        }
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: driver.path(id),
        };
        driver.node.node_unstage_volume(request).await.unwrap();
        driver.delete(id).await;
    }
    let request = v1::DeleteSnapshotRequest {
        snapshot_id: "s".into(),
        ..Default::default()
    };
    driver.controller.delete_snapshot(request.clone()).await.unwrap();
    driver.controller.delete_snapshot(request).await.unwrap();
    driver.unmount("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn of_a_directory() {
    if is_root() {
        moments("directory", 8 * MIB).await;
    }
}

#[tokio::test]
async fn of_ext4() {
    if is_root() {
        moments("ext4", 16 * MIB).await;
    }
}

#[tokio::test]
async fn of_btrfs() {
    if is_root() {
        moments("btrfs", 128 * MIB).await;
    }
}

#[tokio::test]
async fn snapshots_are_listed() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    for (volume, name) in [("v1", "a"), ("v1", "b"), ("v2", "c")] {
        driver.create(volume, "directory", MIB).await;
        let take = v1::CreateSnapshotRequest {
            source_volume_id: volume.into(),
            name: name.into(),
            ..Default::default()
        };
        driver.controller.create_snapshot(take).await.unwrap();
    }
    let mut list = async |request: v1::ListSnapshotsRequest| {
        let answer = driver.controller.list_snapshots(request).await.unwrap().into_inner();
        let ids = answer.entries.into_iter().map(|e| e.snapshot.unwrap().snapshot_id);
        (ids.collect::<Vec<_>>(), answer.next_token)
    };
    let request = v1::ListSnapshotsRequest {
        max_entries: 2,
        ..Default::default()
    };
    let (first, next) = list(request.clone()).await;
    assert_eq!(first, ["a", "b"]);
    let second = v1::ListSnapshotsRequest {
        starting_token: next,
        ..request.clone()
    };
    assert_eq!(list(second).await, (vec!["c".to_owned()], String::new()));
    let of_volume = v1::ListSnapshotsRequest {
        source_volume_id: "v1".into(),
        ..Default::default()
    };
    assert_eq!(list(of_volume).await.0, ["a", "b"]);
    for (snapshot_id, source_volume_id) in [("none", ""), ("", "none"), ("c", "v1")] {
        let request = v1::ListSnapshotsRequest {
            snapshot_id: snapshot_id.into(),
            source_volume_id: source_volume_id.into(),
            ..Default::default()
        };
        assert!(list(request).await.0.is_empty());
    }
    driver.stop().await;
}

#[tokio::test]
async fn a_copy_of_what_has_yet_to_grow_grows() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "ext4", 16 * MIB).await;
    let request = v1::ControllerExpandVolumeRequest {
        volume_id: "v".into(),
        capacity_range: Some(v1::CapacityRange {
            required_bytes: 64 * MIB,
            limit_bytes: 0,
        }),
        ..Default::default()
    };
    driver.controller.controller_expand_volume(request).await.unwrap();
    let take = v1::CreateSnapshotRequest {
        source_volume_id: "v".into(),
        name: "s".into(),
        ..Default::default()
    };
    driver.controller.create_snapshot(take).await.unwrap();
    for (id, source) in [("clone", of_volume("v")), ("restored", of_snapshot("s"))] {
        let mut copy = create(id, "ext4", 0);
        copy.volume_content_source = source;
        driver.controller.create_volume(copy).await.unwrap();
        let target = driver.mount(id, "ext4").await;
        let bytes = driver.bytes_at(id, target.to_str().unwrap()).await.unwrap();
        assert!(bytes > 48 * MIB, "{id}: {bytes}");
        driver.unmount(id).await;
    }
    driver.stop().await;
}

fn losetup(words: &[&str]) -> String {
    let output = std::process::Command::new("losetup").args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_image_is_held_still_wherever_it_is_mounted() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    let request = driver.publish_ephemeral("csi-1", "ext4");
    driver.node.node_publish_volume(request).await.unwrap();
    std::fs::write(driver.path("target/f"), "not on the disk yet").unwrap();
    let mut clone = create("clone", "ext4", 0);
    clone.volume_content_source = of_volume("csi-1");
    driver.controller.create_volume(clone).await.unwrap();
    let request = v1::NodeUnpublishVolumeRequest {
        volume_id: "csi-1".into(),
        target_path: driver.path("target"),
    };
    driver.node.node_unpublish_volume(request).await.unwrap();
    let target = driver.mount("clone", "ext4").await;
    let read = std::fs::read_to_string(target.join("f"));
    assert_eq!(read.unwrap(), "not on the disk yet");
    driver.unmount("clone").await;

    // Whoever has it now may write to it.
    driver.create("v", "ext4", 8 * MIB).await;
    let device = losetup(&["--find", "--show", &driver.path("data/volumes/v/image")]);
    let take = v1::CreateSnapshotRequest {
        source_volume_id: "v".into(),
        name: "s".into(),
        ..Default::default()
    };
    let taken = driver.controller.create_snapshot(take.clone()).await;
    assert_eq!(code(taken), Code::FailedPrecondition);
    losetup(&["--detach", &device]);
    driver.controller.create_snapshot(take).await.unwrap();
    driver.stop().await;
}

#[tokio::test]
async fn a_source_keeps_its_size_while_it_is_copied() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "block", 8 * MIB).await;
    let mut growing = driver.controller.clone();
    let growth = tokio::spawn(async move {
        for step in 2..40 {
            let request = v1::ControllerExpandVolumeRequest {
                volume_id: "v".into(),
                capacity_range: Some(v1::CapacityRange {
                    required_bytes: step * 8 * MIB,
                    limit_bytes: 0,
                }),
                ..Default::default()
            };
            // It is refused while a copy is made.
            growing.controller_expand_volume(request).await.ok();
        }
    });
    for number in 0..10 {
        let id = format!("clone{number}");
        let mut clone = create(&id, "block", 0);
        clone.volume_content_source = of_volume("v");
        if let Ok(made) = driver.controller.create_volume(clone).await {
            let bytes = made.into_inner().volume.unwrap().capacity_bytes;
            let image = driver.path(&format!("data/volumes/{id}/image"));
            assert_eq!(std::fs::metadata(image).unwrap().len(), u64::try_from(bytes).unwrap());
        }
    }
    growth.await.unwrap();
    driver.stop().await;
}
