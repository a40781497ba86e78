//! An image's size is a limit, and can be raised.

use crate::running::{Driver, MIB, is_root};
use csi::v1;
use std::io::{ErrorKind, Write};
use std::path::Path;
use tonic::{Code, Status};

/// Writes until the volume is full, durably.
fn fill(path: &Path, mebibytes: u32) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for _ in 0..mebibytes {
        file.write_all(&[7; 1 << 20])?;
    }
    file.sync_all()
}

async fn raise(driver: &mut Driver, bytes: i64) -> Result<i64, Status> {
    let range = Some(v1::CapacityRange {
        required_bytes: bytes,
        limit_bytes: 0,
    });
    let request = v1::ControllerExpandVolumeRequest {
        volume_id: "v".into(),
        capacity_range: range,
        ..Default::default()
    };
    let answer = driver.controller.controller_expand_volume(request).await?.into_inner();
    assert_eq!((answer.capacity_bytes, answer.node_expansion_required), (bytes, true));
    let request = v1::NodeExpandVolumeRequest {
        volume_id: "v".into(),
        volume_path: driver.path("target"),
        capacity_range: range,
        ..Default::default()
    };
    Ok(driver
        .node
        .node_expand_volume(request)
        .await?
        .into_inner()
        .capacity_bytes)
}

#[tokio::test]
async fn ext4_is_full_at_its_size_and_grows() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "ext4", 16 * MIB).await;
    let target = driver.mount("v", "ext4").await;
    std::fs::write(target.join("kept"), "data").unwrap();
    let full = fill(&target.join("f"), 24).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    match raise(&mut driver, 64 * MIB).await {
        Ok(bytes) => assert_eq!(bytes, 64 * MIB),
        Err(status) => {
            // Without CAP_SYS_RESOURCE, ext4 grows when it is staged again.
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            driver.unmount("v").await;
            driver.mount("v", "ext4").await;
        }
    }
    fill(&target.join("f"), 24).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("kept")).unwrap(), "data");
    driver.unmount("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn btrfs_grows_under_its_users() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "btrfs", 128 * MIB).await;
    let target = driver.mount("v", "btrfs").await;
    let path = target.to_str().unwrap();
    let open = std::fs::File::create(target.join("open")).unwrap();
    assert_eq!(driver.bytes_at("v", path).await.unwrap(), 128 * MIB);
    assert_eq!(raise(&mut driver, 256 * MIB).await.unwrap(), 256 * MIB);
    assert_eq!(driver.bytes_at("v", path).await.unwrap(), 256 * MIB);
    drop(open);
    driver.unmount("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn a_block_device_grows_under_its_users() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "block", 8 * MIB).await;
    let target = driver.mount("v", "block").await;
    assert_eq!(raise(&mut driver, 16 * MIB).await.unwrap(), 16 * MIB);
    let mut device = std::fs::OpenOptions::new().write(true).open(&target).unwrap();
    let end = std::io::Seek::seek(&mut device, std::io::SeekFrom::End(0)).unwrap();
    assert_eq!(i64::try_from(end).unwrap(), 16 * MIB);
    drop(device);
    driver.unmount("v").await;
    driver.delete("v").await;
    driver.stop().await;
}

#[tokio::test]
async fn an_image_that_is_gone_is_not_made_anew() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "ext4", 8 * MIB).await;
    let image = driver.path("data/volumes/v/image");
    std::fs::remove_file(&image).unwrap();
    assert_eq!(raise(&mut driver, 16 * MIB).await.unwrap_err().code(), Code::Internal);
    assert!(!Path::new(&image).exists());
    driver.delete("v").await;
    driver.stop().await;
}
