//! Volumes that have become larger and are to grow on this node, too: the driver is asked, and the claim told.

use super::mount::{Mount, TIMEOUT, secrets};
use super::request::{Group, capability};
use super::source::Source;
use crate::events::Severity;
use crate::run::Node;
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use csi::v1;
use kube::Api;
use kube::api::{Patch, PatchParams};
use node_plan::quantity_rounded_up;
use serde_json::json;

/// Conditions that say that a claim's volume is on its way to another size.
const CONDITIONS: [&str; 2] = ["Resizing", "FileSystemResizePending"];

/// Others write the same status: it is read and written again this often.
const TRIES_MAX: u32 = 5;

/// The size that a volume has and its claim does not know of yet.
pub(crate) fn due<'a>(volume: &'a PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'a Quantity> {
    let bytes = |quantity: &Quantity| quantity_rounded_up(quantity, 1_000_000_000);
    let has = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let known = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    (bytes(has)? > bytes(known)?).then_some(has)
}

/// Grows a mounted volume and tells its claim. Pods may use it whatever comes of that.
///
/// # Errors
/// The driver refused, or the claim could not be told; to be tried again.
pub(crate) async fn expand(
    node: &Node,
    pod: &Pod,
    source: &Source,
    mount: &Mount,
    claim: &PersistentVolumeClaim,
    size: &Quantity,
) -> Result<(), String> {
    let grown = ask(node, source, mount, size).await;
    if let Err(why) = &grown {
        let told = format!(
            "NodeExpandVolume.NodeExpandVolume failed for volume {:?} : {why}",
            source.name
        );
        node.recorder
            .pod(pod, None, Severity::Warning, "VolumeResizeFailed", told);
    }
    grown?;
    let told = tell_claim(node, claim, size).await;
    told.map_err(|error| format!("the claim could not be told of its size: {error}"))?;
    let message = format!("MountVolume.NodeExpandVolume succeeded for volume {:?}", source.name);
    node.recorder
        .pod(pod, None, Severity::Normal, "FileSystemResizeSuccessful", message);
    Ok(())
}

/// Writes the size, and nothing over what others wrote meanwhile.
async fn tell_claim(node: &Node, claim: &PersistentVolumeClaim, size: &Quantity) -> Result<(), kube::Error> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(node.client.clone(), namespace);
    let mut tries = TRIES_MAX;
    loop {
        let current = claims.get(name).await?;
        let conditions = current
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let left: Vec<_> = conditions
            .filter(|condition| !CONDITIONS.contains(&condition.type_.as_str()))
            .collect();
        let patch = json!({
            "metadata": {"uid": claim.metadata.uid, "resourceVersion": current.metadata.resource_version},
            "status": {
                "capacity": {"storage": size}, "conditions": left,
                "allocatedResources": null, "allocatedResourceStatuses": null,
            },
        });
        let patched = claims
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            Err(kube::Error::Api(answer)) if answer.code == 409 && tries > 0 => tries -= 1,
            patched => return patched.map(drop),
        }
    }
}

async fn ask(node: &Node, source: &Source, mount: &Mount, size: &Quantity) -> Result<(), String> {
    let driver = node.drivers.find(&source.driver).await?;
    if !driver.expands {
        // All was done where the volume is.
        return Ok(());
    }
    let bytes = quantity_rounded_up(size, 1_000_000_000);
    let request = v1::NodeExpandVolumeRequest {
        volume_id: source.handle.clone(),
        volume_path: mount.path.to_string_lossy().into_owned(),
        capacity_range: Some(v1::CapacityRange {
            required_bytes: bytes.unwrap_or_default(),
            limit_bytes: 0,
        }),
        staging_target_path: mount
            .staging
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        volume_capability: Some(capability(&driver, source, Group::Nobody)),
        secrets: secrets(node, source.secrets.expand.as_ref()).await?,
    };
    let lock = node.drivers.lock(&source.driver, &source.handle);
    let _one_at_a_time = lock.lock().await;
    let grown = driver.node().node_expand_volume(csi::timed(request, TIMEOUT)).await;
    grown.map(drop).map_err(|status| csi::told(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_larger_than_its_claim_knows_grows() {
        let check = |has: &str, known: &str, expected: bool| {
            let volume = serde_json::from_value(json!({"spec": {"capacity": {"storage": has}}})).unwrap();
            let claim = serde_json::from_value(json!({"status": {"capacity": {"storage": known}}})).unwrap();
            assert_eq!(due(&volume, &claim).is_some(), expected, "{has} {known}");
        };
        check("2Gi", "1Gi", true);
        check("2Gi", "2048Mi", false);
        check("1Gi", "2Gi", false);
    }
}
