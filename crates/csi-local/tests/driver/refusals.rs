//! Requests that make no sense get the codes of the specification.

use crate::running::{Driver, MIB, capability, code, create, is_root};
use csi::v1;
use csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tonic::Code;

/// A request with one thing wrong.
fn with(change: impl FnOnce(&mut v1::CreateVolumeRequest)) -> v1::CreateVolumeRequest {
    let mut request = create("v", "ext4", 8 * MIB);
    change(&mut request);
    request
}

fn filled_from(source: Type) -> v1::CreateVolumeRequest {
    with(|r| r.volume_content_source = Some(v1::VolumeContentSource { r#type: Some(source) }))
}

fn with_parameter(name: &str, value: &str) -> v1::CreateVolumeRequest {
    with(|r| r.parameters.extend([(name.to_owned(), value.to_owned())]))
}

#[tokio::test]
async fn volumes_that_cannot_be_made() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    let range = |required_bytes, limit_bytes| {
        Some(v1::CapacityRange {
            required_bytes,
            limit_bytes,
        })
    };
    let elsewhere = v1::Topology {
        segments: [(csi_local::TOPOLOGY.into(), "n2".into())].into(),
    };
    let requirement = v1::TopologyRequirement {
        requisite: vec![elsewhere],
        preferred: Vec::new(),
    };
    let snapshot = SnapshotSource {
        snapshot_id: "none".into(),
    };
    let volume = VolumeSource {
        volume_id: "../up".into(),
    };
    let cases = [
        (with(|r| r.name.clear()), Code::InvalidArgument),
        (with(|r| r.name = "x".repeat(129)), Code::InvalidArgument),
        (with(|r| r.volume_capabilities.clear()), Code::InvalidArgument),
        (
            with(|r| r.volume_capabilities[0].access_mode = None),
            Code::InvalidArgument,
        ),
        (
            with(|r| r.volume_capabilities[0].access_type = None),
            Code::InvalidArgument,
        ),
        (
            with(|r| r.volume_capabilities.push(capability("block"))),
            Code::InvalidArgument,
        ),
        (with_parameter("fs", "zfs"), Code::InvalidArgument),
        (with_parameter("colour", "red"), Code::InvalidArgument),
        (
            with(|r| r.mutable_parameters = [("iops".into(), "1".into())].into()),
            Code::InvalidArgument,
        ),
        (with(|r| r.capacity_range = range(2, 1)), Code::OutOfRange),
        (
            with(|r| r.accessibility_requirements = Some(requirement)),
            Code::ResourceExhausted,
        ),
        (filled_from(Type::Snapshot(snapshot)), Code::NotFound),
        (filled_from(Type::Volume(volume)), Code::NotFound),
    ];
    for (request, expected) in cases {
        let shown = format!("{request:?}");
        assert_eq!(
            code(driver.controller.create_volume(request).await),
            expected,
            "{shown}"
        );
    }
    let list = v1::ListVolumesRequest {
        starting_token: "nonsense".into(),
        ..Default::default()
    };
    assert_eq!(code(driver.controller.list_volumes(list).await), Code::Aborted);
    driver.stop().await;
}

#[tokio::test]
async fn calls_about_nothing() {
    if !is_root() {
        return;
    }
    let mut driver = Driver::start().await;
    driver.create("v", "ext4", 8 * MIB).await;
    for (id, expected) in [
        ("", Code::InvalidArgument),
        ("none", Code::NotFound),
        ("../v", Code::NotFound),
    ] {
        let stage = driver.stage(id, "ext4");
        assert_eq!(code(driver.node.node_stage_volume(stage).await), expected);
        let publish = driver.publish(id, "ext4");
        assert_eq!(code(driver.node.node_publish_volume(publish).await), expected);
        let path = driver.path("target");
        assert_eq!(driver.bytes_at(id, &path).await.unwrap_err().code(), expected);
        let expand = v1::NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: path,
            ..Default::default()
        };
        assert_eq!(code(driver.node.node_expand_volume(expand).await), expected);
        let get = v1::ControllerGetVolumeRequest { volume_id: id.into() };
        assert_eq!(code(driver.controller.controller_get_volume(get).await), expected);
        let expand = v1::ControllerExpandVolumeRequest {
            volume_id: id.into(),
            capacity_range: Some(v1::CapacityRange::default()),
            ..Default::default()
        };
        assert_eq!(code(driver.controller.controller_expand_volume(expand).await), expected);
    }
    // Of a volume that is there, but is not what is asked for.
    let mut unstaged = driver.publish("v", "ext4");
    assert_eq!(
        code(driver.node.node_publish_volume(unstaged.clone()).await),
        Code::FailedPrecondition
    );
    unstaged.staging_target_path.clear();
    assert_eq!(
        code(driver.node.node_publish_volume(unstaged).await),
        Code::FailedPrecondition
    );
    let as_block = driver.stage("v", "block");
    assert_eq!(
        code(driver.node.node_stage_volume(as_block).await),
        Code::InvalidArgument
    );
    let mut nothing_said = driver.stage("v", "ext4");
    nothing_said.volume_capability = None;
    assert_eq!(
        code(driver.node.node_stage_volume(nothing_said).await),
        Code::InvalidArgument
    );
    let range = v1::ControllerExpandVolumeRequest {
        volume_id: "v".into(),
        ..Default::default()
    };
    assert_eq!(
        code(driver.controller.controller_expand_volume(range).await),
        Code::InvalidArgument
    );
    let path = driver.path("elsewhere");
    assert_eq!(driver.bytes_at("v", &path).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        driver.bytes_at("v", "some/path").await.unwrap_err().code(),
        Code::NotFound
    );
    driver.delete("v").await;
    driver.stop().await;
}
