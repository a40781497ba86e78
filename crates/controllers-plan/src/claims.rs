//! Claims and volumes: binding one to the other, making local volumes, and keeping both from vanishing under a pod.
//!
//! Claim and volume each name the other; both names together are the binding. A volume is promised first (`claimRef`),
//! which the API server gives to one claim only, for every write carries the version that was seen; then the claim takes
//! it (`volumeName`). A crash in between leaves a promise that the next plan keeps.
//!
//! ```text
//! claim:   Pending ──▶ Bound ──▶ Lost            (its volume vanished or belongs to another)
//! volume:  (new) ──▶ Available ──▶ Bound ──▶ Released ──▶ Failed  (nobody can reclaim it)
//! ```

mod bind;
mod claim;
mod ephemeral;
mod protection;
mod provision;
mod volume;

use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use claim::{ObservedClaim, plan_claim};
pub use ephemeral::{ObservedPod, plan_ephemeral};
pub use protection::{ObservedUse, is_used_by, plan_claim_protection, plan_volume_protection};
pub use volume::{ObservedVolume, plan_volume};

/// On a claim: its binding is complete.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume: a controller chose its counterpart, not a person.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the node that its first consumer goes to.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner that is us.
pub const LOCAL_PROVISIONER: &str = "steadfast.io/local";

/// Keeps a local volume's object until its directory is removed.
const LOCAL_FINALIZER: &str = "steadfast.io/local-volume";

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default()
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn volume_phase(volume: &PersistentVolume) -> &str {
    volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a claim still wants a volume.
pub fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BIND_COMPLETED).is_none()
}

fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
