//! What a new volume is filled from: another claim's volume, or a snapshot.
//!
//! Snapshots are made by others (upstream's snapshot controller and external-snapshotter, which know the driver as any
//! other); here they are only read.

use crate::claims::is_ours;
use crate::run::{Context, Error};
use api::k8s::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use csi::v1;
use csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use crate::provision::units;

/// The group of snapshots.
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";

/// The driver's name for what a claim is to be filled from, if it is to be; or why that cannot be.
type Source = Result<Option<v1::VolumeContentSource>, String>;

/// What the volume of a claim is to be filled from.
pub(crate) async fn source(
    context: &Context,
    claim: &PersistentVolumeClaim,
    spec: &PersistentVolumeClaimSpec,
) -> Result<Source, Error> {
    let Some(wanted) = &spec.data_source else {
        let why = "dataSourceRef is not supported without a dataSource that is the same";
        return Ok(spec.data_source_ref.as_ref().map_or(Ok(None), |_| Err(why.to_owned())));
    };
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let group = wanted.api_group.as_deref().unwrap_or_default();
    match (group, wanted.kind.as_str()) {
        ("", "PersistentVolumeClaim") => of_claim(context, namespace, wanted).await,
        (SNAPSHOTS, "VolumeSnapshot") => of_snapshot(context, namespace, wanted, spec).await,
        (_, kind) => Ok(Err(format!("a data source of kind {kind} is not supported"))),
    }
}

async fn of_claim(context: &Context, namespace: &str, wanted: &TypedLocalObjectReference) -> Result<Source, Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let Some(other) = claims.get_opt(&wanted.name).await? else {
        return Ok(Err(format!(
            "error getting PVC {} from api server: not found",
            wanted.name
        )));
    };
    let is_bound = other.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = other.spec.and_then(|spec| spec.volume_name).filter(|_| is_bound);
    let Some(volume) = volume else {
        return Ok(Err(format!("the PVC {} is not bound", wanted.name)));
    };
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let volume = volumes.get_opt(&volume).await?;
    let volume = volume.filter(|volume| is_ours(context, volume));
    let handle = volume.and_then(|volume| volume.spec?.csi).map(|csi| csi.volume_handle);
    let source = handle.map(|volume_id| content(Type::Volume(VolumeSource { volume_id })));
    Ok(source.map(Some).ok_or_else(|| {
        format!(
            "the volume of PVC {} is not one of {} on this node",
            wanted.name, context.driver.name
        )
    }))
}

async fn of_snapshot(
    context: &Context,
    namespace: &str,
    wanted: &TypedLocalObjectReference,
    spec: &PersistentVolumeClaimSpec,
) -> Result<Source, Error> {
    let name = &wanted.name;
    let kind = |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(SNAPSHOTS, "v1", kind));
    let snapshots: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &kind("VolumeSnapshot"));
    let Some(snapshot) = snapshots.get_opt(name).await? else {
        return Ok(Err(format!("error getting snapshot {name} from api server: not found")));
    };
    let content_name = match bound_content(&snapshot, spec) {
        Ok(content_name) => content_name,
        Err(why) => return Ok(Err(why)),
    };
    let contents: Api<DynamicObject> = Api::all_with(context.client.clone(), &kind("VolumeSnapshotContent"));
    let Some(found) = contents.get_opt(&content_name).await? else {
        return Ok(Err(format!("error getting snapshotcontent {content_name}: not found")));
    };
    Ok(handle(&found, &snapshot, &context.driver.name)
        .map(|snapshot_id| Some(content(Type::Snapshot(SnapshotSource { snapshot_id })))))
}

fn content(r#type: Type) -> v1::VolumeContentSource {
    v1::VolumeContentSource { r#type: Some(r#type) }
}

/// The name of the content of a snapshot that can be used for a claim.
fn bound_content(snapshot: &DynamicObject, spec: &PersistentVolumeClaimSpec) -> Result<String, String> {
    let name = snapshot.metadata.name.as_deref().unwrap_or_default();
    let status = &snapshot.data["status"];
    if snapshot.metadata.deletion_timestamp.is_some() {
        return Err(format!("snapshot {name} is currently being deleted"));
    }
    if status["readyToUse"] != Value::Bool(true) {
        return Err(format!("snapshot {name} is not Ready"));
    }
    let size = |text: &str| units(&Quantity(text.to_owned())).unwrap_or(0);
    let least = status["restoreSize"].as_str().map_or(0, size);
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let asked = requests
        .and_then(|requests| requests.get("storage"))
        .and_then(units)
        .unwrap_or(0);
    if asked < least {
        return Err(format!(
            "requested volume size {asked} is less than the size {least} for the source snapshot {name}"
        ));
    }
    let content = status["boundVolumeSnapshotContentName"].as_str();
    content
        .map(str::to_owned)
        .ok_or_else(|| format!("snapshot {name} is not bound"))
}

/// What the driver calls the snapshot that a content is of, if both belong together.
fn handle(content: &DynamicObject, snapshot: &DynamicObject, driver: &str) -> Result<String, String> {
    let name = snapshot.metadata.name.as_deref().unwrap_or_default();
    if content.data["spec"]["volumeSnapshotRef"]["uid"].as_str() != snapshot.metadata.uid.as_deref() {
        return Err(format!("snapshot {name} is bound to a content that is another's"));
    }
    if content.data["spec"]["driver"] != driver {
        return Err(format!("snapshot {name} is not one of {driver}"));
    }
    let handle = content.data["status"]["snapshotHandle"].as_str();
    handle
        .map(str::to_owned)
        .ok_or_else(|| format!("the content of snapshot {name} has no handle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(uid: &str, rest: Value) -> DynamicObject {
        let mut object =
            json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "K", "metadata": {"name": "s", "uid": uid}});
        object
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn snapshots_that_can_be_used() {
        let check = |status: Value, asked: &str| {
            let spec = serde_json::from_value(json!({"resources": {"requests": {"storage": asked}}})).unwrap();
            bound_content(&object("u", json!({"status": status})), &spec)
        };
        let ready = json!({"readyToUse": true, "restoreSize": "1Gi", "boundVolumeSnapshotContentName": "c"});
        assert_eq!(check(ready.clone(), "1Gi"), Ok("c".to_owned()));
        assert!(
            check(ready, "1Mi")
                .unwrap_err()
                .starts_with("requested volume size 1048576 is less")
        );
        assert_eq!(check(json!({}), "1Gi").unwrap_err(), "snapshot s is not Ready");
        assert_eq!(
            check(json!({"readyToUse": true}), "1Gi").unwrap_err(),
            "snapshot s is not bound"
        );
    }

    #[test]
    fn contents_that_belong_to_a_snapshot() {
        let snapshot = object("u", json!({}));
        let check = |uid: &str, driver: &str, handle_: Value| {
            let spec = json!({"volumeSnapshotRef": {"uid": uid}, "driver": driver});
            let content = object("c", json!({"spec": spec, "status": {"snapshotHandle": handle_}}));
            handle(&content, &snapshot, "d")
        };
        assert_eq!(check("u", "d", json!("h")), Ok("h".to_owned()));
        assert!(check("other", "d", json!("h")).is_err());
        assert!(check("u", "other", json!("h")).is_err());
        assert!(check("u", "d", Value::Null).is_err());
    }
}
