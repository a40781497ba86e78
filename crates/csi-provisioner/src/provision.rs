//! A volume for a claim: the driver makes it, and a PersistentVolume tells of it.

use crate::claims::{SELECTED_NODE, is_ours};
use crate::run::{Context, Error};
use crate::source::source;
use api::k8s::api::core::v1::{
    CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeNodeAffinity,
};
use api::k8s::api::storage::v1::StorageClass;
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use csi::v1;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tonic::Code;

/// Keeps a volume's object until the driver has removed the volume.
pub(crate) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// Keeps it while it is bound.
const PROTECTION: &str = "kubernetes.io/pv-protection";
/// On a volume: who made it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const FAILED: &str = "ProvisioningFailed";
/// Between two tries to make the object of a volume.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// Makes a volume for a claim, or finds the one that an earlier try made.
pub(crate) async fn provision(
    context: &Context,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Result<(), Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let class_name = class.metadata.name.as_deref().unwrap_or_default();
    let why = |why: String| format!("failed to provision volume with StorageClass \"{class_name}\": {why}");
    let request = match request(context, claim, &spec, class).await? {
        Ok(request) => request,
        Err(reason) => return Err(context.fail(claim, FAILED, why(reason)).await),
    };
    let key = format!(
        "{}/{}",
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        claim.metadata.name.as_deref().unwrap_or_default()
    );
    let note = format!("External provisioner is provisioning volume for claim \"{key}\"");
    context.tell(claim, EventType::Normal, "Provisioning", &note).await;
    let name = request.name.clone();
    let made = match context.driver.create(request.clone()).await {
        Ok(made) => made,
        Err(status) => {
            if status.code() == Code::ResourceExhausted {
                choose_again(context, claim).await?;
            }
            return Err(context.fail(claim, FAILED, why(csi::told(&status))).await);
        }
    };
    let handle = made.volume_id.clone();
    let volume = persistent(context, claim, &spec, class, &request, made);
    if !write_down(context, claim, &volume, &handle).await? {
        return Ok(());
    }
    let note = format!("Successfully provisioned volume {name}");
    context
        .tell(claim, EventType::Normal, "ProvisioningSucceeded", &note)
        .await;
    Ok(())
}

/// Makes the object of a volume that was made; whether there was none. A volume without one would be found by nobody once
/// its claim is gone, so this goes on until there is one, or else takes the volume back.
async fn write_down(
    context: &Context,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    handle: &str,
) -> Result<bool, Error> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let take_back = async || {
        let deleted = context.driver.delete(handle).await;
        deleted.map_err(|status| Error::Told(csi::told(&status)))
    };
    loop {
        let error = match volumes.create(&PostParams::default(), volume).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                // An earlier try of ours got as far, or another node was first; then ours is superfluous.
                match volumes.get_opt(name).await {
                    Ok(Some(known)) if is_ours(context, &known) => return Ok(false),
                    Ok(Some(_)) => return take_back().await.map(|()| false),
                    // It was there a moment ago: the next try makes it.
                    Ok(None) => None,
                    Err(error) => Some(error),
                }
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            tracing::warn!(%error, volume = name, "the object of a volume was not made, trying again");
            // The write may have been done all the same: its object then keeps the volume.
            let is_absent = volumes.get_opt(name).await.is_ok_and(|known| known.is_none());
            if is_absent && is_gone(context, claim).await {
                return take_back().await.map(|()| false);
            }
        }
        tokio::select! {
            () = context.shutdown.cancelled() => {
                return Err(Error::Told(format!("the object of volume {name} was not made before the end")));
            }
            () = tokio::time::sleep(WRITE_RETRY) => {}
        }
    }
}

/// Whether the API says that a claim is not there any more.
async fn is_gone(context: &Context, claim: &PersistentVolumeClaim) -> bool {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let current = claims.get_opt(claim.metadata.name.as_deref().unwrap_or_default()).await;
    current.is_ok_and(|current| current.is_none_or(|current| current.metadata.uid != claim.metadata.uid))
}

/// Tells the scheduler that the volume cannot be made here.
async fn choose_again(context: &Context, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": {SELECTED_NODE: Value::Null}}});
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    claims
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// What the driver is asked for; or why it cannot be asked.
async fn request(
    context: &Context,
    claim: &PersistentVolumeClaim,
    spec: &PersistentVolumeClaimSpec,
    class: &StorageClass,
) -> Result<Result<v1::CreateVolumeRequest, String>, Error> {
    if spec.selector.is_some() {
        return Ok(Err("claim Selector is not supported".to_owned()));
    }
    let parameters = match parameters(class) {
        Ok(parameters) => parameters,
        Err(why) => return Ok(Err(why)),
    };
    let volume_content_source = match source(context, claim, spec).await? {
        Ok(source) => source,
        Err(why) => return Ok(Err(why)),
    };
    let resources = spec.resources.as_ref();
    let bytes = |list: Option<&std::collections::BTreeMap<String, Quantity>>| {
        list.and_then(|list| list.get("storage")).and_then(units).unwrap_or(0)
    };
    let topology = v1::Topology {
        segments: context.driver.topology.clone().into_iter().collect(),
    };
    let requirement = v1::TopologyRequirement {
        requisite: vec![topology.clone()],
        preferred: vec![topology],
    };
    Ok(Ok(v1::CreateVolumeRequest {
        name: format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default()),
        capacity_range: Some(v1::CapacityRange {
            required_bytes: bytes(resources.and_then(|r| r.requests.as_ref())),
            limit_bytes: bytes(resources.and_then(|r| r.limits.as_ref())),
        }),
        volume_capabilities: capabilities(spec, class, &parameters.fs_type),
        parameters: parameters.of_driver,
        volume_content_source,
        accessibility_requirements: Some(requirement).filter(|_| !context.driver.topology.is_empty()),
        ..v1::CreateVolumeRequest::default()
    }))
}

/// Whole units of an amount.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    api::quantity::parse(&quantity.0)
        .ok()
        .map(api::quantity::Quantity::units)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    fs_type: String,
    of_driver: HashMap<String, String>,
}

/// The class's parameters: those of the driver, and those of provisioners.
fn parameters(class: &StorageClass) -> Result<Parameters, String> {
    let mut parameters = Parameters::default();
    for (name, value) in class.parameters.iter().flatten() {
        match name.strip_prefix("csi.storage.k8s.io/") {
            Some("fstype") => parameters.fs_type.clone_from(value),
            Some(other) => return Err(format!("parameter csi.storage.k8s.io/{other} is not supported")),
            // Of classes whose directories others make.
            None if name == "path" => {}
            None => drop(parameters.of_driver.insert(name.clone(), value.clone())),
        }
    }
    Ok(parameters)
}

fn capabilities(spec: &PersistentVolumeClaimSpec, class: &StorageClass, fs_type: &str) -> Vec<v1::VolumeCapability> {
    let is_block = spec.volume_mode.as_deref() == Some("Block");
    let mount_flags = class.mount_options.clone().unwrap_or_default();
    let access_type = || {
        if is_block {
            return AccessType::Block(BlockVolume {});
        }
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: mount_flags.clone(),
            ..MountVolume::default()
        })
    };
    let mode = |mode: &String| match mode.as_str() {
        "ReadWriteMany" => Mode::MultiNodeMultiWriter,
        "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
        _ => Mode::SingleNodeWriter,
    };
    let modes = spec.access_modes.iter().flatten().map(mode);
    modes
        .map(|mode| v1::VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(access_type()),
        })
        .collect()
}

/// The object of a volume that was made.
fn persistent(
    context: &Context,
    claim: &PersistentVolumeClaim,
    spec: &PersistentVolumeClaimSpec,
    class: &StorageClass,
    request: &v1::CreateVolumeRequest,
    made: v1::Volume,
) -> PersistentVolume {
    let is_block = spec.volume_mode.as_deref() == Some("Block");
    let bytes = match (made.capacity_bytes, request.capacity_range) {
        (0, Some(range)) => range.required_bytes,
        (bytes, _) => bytes,
    };
    let policy = class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
    let kept = (policy == "Delete").then(|| FINALIZER.to_owned());
    let fs_type = request
        .volume_capabilities
        .iter()
        .find_map(|one| match &one.access_type {
            Some(AccessType::Mount(mount)) => Some(mount.fs_type.clone()).filter(|name| !name.is_empty()),
            _ => None,
        });
    let attributes = made.volume_context.into_iter().collect();
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(request.name.clone()),
            annotations: Some([(PROVISIONED_BY.to_owned(), context.driver.name.clone())].into()),
            finalizers: Some([PROTECTION.to_owned()].into_iter().chain(kept).collect()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: Some([("storage".to_owned(), size(bytes))].into()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: context.driver.name.clone(),
                volume_handle: made.volume_id,
                fs_type: fs_type.filter(|_| !is_block),
                volume_attributes: Some(attributes).filter(|all: &std::collections::BTreeMap<_, _>| !all.is_empty()),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: class.mount_options.clone().filter(|options| !options.is_empty()),
            node_affinity: affinity(&made.accessible_topology),
            persistent_volume_reclaim_policy: Some(policy),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some(if is_block { "Block" } else { "Filesystem" }.to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// Bytes as people write them.
pub(crate) fn size(bytes: i64) -> Quantity {
    Quantity(api::quantity::Quantity::from_units(bytes).to_binary())
}

fn affinity(places: &[v1::Topology]) -> Option<VolumeNodeAffinity> {
    let term = |place: &v1::Topology| {
        let mut segments: Vec<_> = place.segments.iter().collect();
        segments.sort();
        let requirements = segments.into_iter().map(|(key, value)| NodeSelectorRequirement {
            key: key.clone(),
            operator: "In".to_owned(),
            values: Some(vec![value.clone()]),
        });
        NodeSelectorTerm {
            match_expressions: Some(requirements.collect()),
            match_fields: None,
        }
    };
    let node_selector_terms: Vec<_> = places.iter().map(term).collect();
    (!node_selector_terms.is_empty()).then_some(VolumeNodeAffinity {
        required: Some(NodeSelector { node_selector_terms }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(parameters: &Value) -> StorageClass {
        serde_json::from_value(json!({"metadata": {"name": "c"}, "provisioner": "d", "parameters": parameters}))
            .unwrap()
    }

    #[test]
    fn parameters_of_drivers_and_of_provisioners() {
        let read = parameters(&class(
            &json!({"fs": "ext4", "path": "/x", "csi.storage.k8s.io/fstype": "btrfs"}),
        ));
        let expected = Parameters {
            fs_type: "btrfs".into(),
            of_driver: [("fs".to_owned(), "ext4".to_owned())].into(),
        };
        assert_eq!(read, Ok(expected));
        let secret = class(&json!({"csi.storage.k8s.io/provisioner-secret-name": "s"}));
        assert!(parameters(&secret).unwrap_err().contains("provisioner-secret-name"));
    }

    #[test]
    fn sizes() {
        assert_eq!(size(1 << 30).0, "1Gi");
        assert_eq!(units(&Quantity("1500Mi".into())), Some(1500 << 20));
    }
}
