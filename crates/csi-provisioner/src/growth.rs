//! Claims that ask for more than they have: the driver lets the volume grow, and what is left to do is the node's part.

use crate::provision::{size, units};
use crate::run::{Context, Error};
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The driver is at it.
const RESIZING: &str = "Resizing";
/// The node's part is left.
const PENDING: &str = "FileSystemResizePending";

/// Others write the same status: it is read and written again this often.
const TRIES_MAX: u32 = 5;

type Resources = BTreeMap<String, Quantity>;

fn storage(list: Option<&Resources>) -> i64 {
    list.and_then(|list| list.get("storage")).and_then(units).unwrap_or(0)
}

fn asked(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// Whether a bound claim asks for more than it has.
pub(crate) fn is_wanted(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let is_bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    is_bound && asked(claim) > storage(status.and_then(|status| status.capacity.as_ref()))
}

/// Has a volume grow.
pub(crate) async fn grow(
    context: &Context,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<(), Error> {
    let spec = volume.spec.clone().unwrap_or_default();
    let wanted = asked(claim);
    if storage(spec.capacity.as_ref()) >= wanted {
        // The driver's part is done, maybe by a try that did not get further.
        if !has(claim, PENDING) {
            wait_for_node(context, claim).await?;
        }
        return Ok(());
    }
    if !has(claim, RESIZING) {
        tell_claim(context, claim, Some((RESIZING, "")), None).await?;
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let handle = spec.csi.map(|csi| csi.volume_handle).unwrap_or_default();
    let (bytes, is_for_node) = match context.driver.expand(&handle, wanted).await {
        Ok(grown) => grown,
        Err(status) => {
            let why = format!("resize volume {name} by resizer failed: {}", csi::told(&status));
            return Err(context.fail(claim, "VolumeResizeFailed", why).await);
        }
    };
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let patch = json!({
        "metadata": {"uid": volume.metadata.uid},
        "spec": {"capacity": {"storage": size(bytes.max(wanted))}},
    });
    volumes
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    if is_for_node {
        return wait_for_node(context, claim).await;
    }
    tell_claim(context, claim, None, Some(bytes.max(wanted))).await?;
    context
        .tell(
            claim,
            EventType::Normal,
            "VolumeResizeSuccessful",
            "Resize volume succeeded",
        )
        .await;
    Ok(())
}

fn has(claim: &PersistentVolumeClaim, type_: &str) -> bool {
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == type_ && one.status == "True"))
}

async fn wait_for_node(context: &Context, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let message = "Waiting for user to (re-)start a pod to finish file system resize of volume on node.";
    tell_claim(context, claim, Some((PENDING, message)), None).await?;
    let note = "Require file system resize of volume on node";
    context
        .tell(claim, EventType::Normal, "FileSystemResizeRequired", note)
        .await;
    Ok(())
}

/// Writes how far the growth is, and nothing over what others wrote meanwhile.
async fn tell_claim(
    context: &Context,
    claim: &PersistentVolumeClaim,
    condition: Option<(&str, &str)>,
    bytes: Option<i64>,
) -> Result<(), Error> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let mut tries = TRIES_MAX;
    loop {
        let current = claims.get(name).await?;
        let status = status(&current, condition, bytes);
        let version = &current.metadata.resource_version;
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "resourceVersion": version}, "status": status});
        let patched = claims
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            Err(kube::Error::Api(answer)) if answer.code == 409 && tries > 0 => tries -= 1,
            patched => return Ok(patched.map(drop)?),
        }
    }
}

/// How far the growth is, beside what others have said.
fn status(current: &PersistentVolumeClaim, condition: Option<(&str, &str)>, bytes: Option<i64>) -> Value {
    let others = current
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter(|one| one.type_ != RESIZING && one.type_ != PENDING);
    let mut conditions: Vec<Value> = others.map(condition_value).collect();
    if let Some((type_, message)) = condition {
        let now = jiff::Timestamp::now();
        conditions.push(json!({
            "type": type_, "status": "True", "message": message, "lastTransitionTime": format!("{now:.0}"),
        }));
    }
    let mut status = json!({"conditions": conditions});
    if let Some(bytes) = bytes {
        status["capacity"] = json!({"storage": size(bytes)});
    }
    status
}

fn condition_value(condition: &PersistentVolumeClaimCondition) -> Value {
    json!(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bound_claims_that_ask_for_more_grow() {
        let check = |phase: &str, asked: &str, has: &str, expected: bool| {
            let claim = serde_json::from_value(json!({
                "spec": {"resources": {"requests": {"storage": asked}}},
                "status": {"phase": phase, "capacity": {"storage": has}},
            }))
            .unwrap();
            assert_eq!(is_wanted(&claim), expected, "{phase} {asked} {has}");
        };
        check("Bound", "2Gi", "1Gi", true);
        check("Bound", "1Gi", "1024Mi", false);
        check("Bound", "1Gi", "2Gi", false);
        check("Pending", "2Gi", "1Gi", false);
    }
}
