//! Volumes that their claims have left: the driver removes them, then their objects go.

use crate::claims::{annotation, is_ours};
use crate::provision::{FINALIZER, PROVISIONED_BY};
use crate::run::{Context, Error};
use api::k8s::api::core::v1::PersistentVolume;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// A volume that is in use is looked at again after this time.
const IN_USE: Duration = Duration::from_secs(1);

/// What becomes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Stays,
    /// It and its data go.
    Goes,
    /// It goes, its data stays.
    GoesWithoutData,
}

fn fate(volume: &PersistentVolume) -> Fate {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_going = volume.metadata.deletion_timestamp.is_some();
    let is_held = volume.finalizers().iter().any(|one| one == FINALIZER);
    match (policy, phase) {
        _ if is_going && !is_held => Fate::Stays,
        (_, Some("Bound") | None) => Fate::Stays,
        (Some("Delete"), Some("Released")) => Fate::Goes,
        // Pending says nothing yet: a claim may have been bound since.
        (_, Some("Pending")) => Fate::Stays,
        (Some("Delete"), _) if is_going => Fate::Goes,
        (_, _) if is_going => Fate::GoesWithoutData,
        _ => Fate::Stays,
    }
}

/// Works on a volume.
pub(crate) async fn reconcile(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action, Error> {
    let made_by = annotation(&volume.metadata, PROVISIONED_BY);
    let is_made_by_us = made_by == Some(context.driver.name.as_str());
    if !is_made_by_us || !is_ours(&context, &volume) || fate(&volume) == Fate::Stays {
        return Ok(Action::await_change());
    }
    // The watch may be behind: nothing is removed on old news.
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let name = volume.name_any();
    let current = volumes.get_opt(&name).await?;
    let Some(current) = current.filter(|current| current.metadata.uid == volume.metadata.uid) else {
        return Ok(Action::await_change());
    };
    let fate = fate(&current);
    if fate == Fate::Stays {
        return Ok(Action::await_change());
    }
    if fate == Fate::Goes {
        let csi = current.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        let handle = csi.map(|csi| csi.volume_handle.as_str()).unwrap_or_default();
        if let Err(status) = context.driver.delete(handle).await {
            if status.code() == Code::FailedPrecondition {
                // A pod that was deleted by force is still ending.
                return Ok(Action::requeue(IN_USE));
            }
            return Err(context.fail(&current, "VolumeFailedDelete", csi::told(&status)).await);
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: current.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        gone_is_fine(volumes.delete(&name, &params).await.map(drop))?;
    }
    let left: Vec<&String> = current.finalizers().iter().filter(|one| *one != FINALIZER).collect();
    let patch = json!({"metadata": {"uid": current.metadata.uid, "finalizers": left}});
    let patched = volumes
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    gone_is_fine(patched.map(drop))?;
    Ok(Action::await_change())
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates() {
        let check = |policy: &str, phase: &str, is_going: bool, is_held: bool, expected: Fate| {
            let mut volume: PersistentVolume = serde_json::from_value(json!({
                "metadata": {"finalizers": if is_held { vec![FINALIZER] } else { vec![] }},
                "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
            }))
            .unwrap();
            if is_going {
                let at = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                volume.metadata.deletion_timestamp = Some(at);
            }
            assert_eq!(fate(&volume), expected, "{policy} {phase} {is_going} {is_held}");
        };
        check("Delete", "Bound", false, true, Fate::Stays);
        check("Delete", "Bound", true, true, Fate::Stays);
        check("Delete", "Available", false, true, Fate::Stays);
        check("Delete", "Released", false, true, Fate::Goes);
        check("Delete", "Released", false, false, Fate::Goes);
        check("Delete", "Released", true, true, Fate::Goes);
        check("Delete", "Released", true, false, Fate::Stays);
        check("Delete", "Available", true, true, Fate::Goes);
        check("Delete", "Pending", true, true, Fate::Stays);
        check("Retain", "Released", false, true, Fate::Stays);
        check("Retain", "Released", true, true, Fate::GoesWithoutData);
    }
}
