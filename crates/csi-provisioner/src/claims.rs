//! What becomes of a claim: nothing of ours, a volume, or a larger one.

use crate::run::{Context, Error};
use crate::{growth, provision};
use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use api::k8s::api::storage::v1::StorageClass;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::volumes::class_of_claim;
use kube::Api;
use kube::runtime::controller::Action;
use std::sync::Arc;

/// On a claim: who is to make its volume; the older name is still written by older binders.
const PROVISIONER: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// On a claim: the node that its first consumer goes to.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Works on a claim.
pub(crate) async fn reconcile(claim: Arc<PersistentVolumeClaim>, context: Arc<Context>) -> Result<Action, Error> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    match volume.filter(|name| !name.is_empty()) {
        Some(name) => grow(&context, &claim, &name).await?,
        None => make(&context, &claim).await?,
    }
    Ok(Action::await_change())
}

pub(crate) fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

async fn make(context: &Context, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let provisioner = PROVISIONER.iter().find_map(|key| annotation(&claim.metadata, key));
    let is_ours = provisioner.is_some_and(|name| context.names.iter().any(|ours| ours == name));
    if !is_ours {
        return Ok(());
    }
    let classes: Api<StorageClass> = Api::all(context.client.clone());
    let Some(class) = classes.get_opt(class_of_claim(claim)).await? else {
        return Ok(());
    };
    if Some(class.provisioner.as_str()) != provisioner || !is_for_here(context, claim, &class).await? {
        return Ok(());
    }
    provision::provision(context, claim, &class).await
}

/// Whether a claim's volume is to be made on this node.
async fn is_for_here(context: &Context, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<bool, Error> {
    if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
        return Ok(annotation(&claim.metadata, SELECTED_NODE) == Some(context.node_name.as_str()));
    }
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    if terms.is_empty() {
        return Ok(true);
    }
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = nodes.get_opt(&context.node_name).await?;
    let labels = node.and_then(|node| node.metadata.labels).unwrap_or_default();
    Ok(terms.iter().any(|term| {
        let wanted = term.match_label_expressions.as_deref().unwrap_or_default();
        wanted
            .iter()
            .all(|one| labels.get(&one.key).is_some_and(|value| one.values.contains(value)))
    }))
}

async fn grow(context: &Context, claim: &PersistentVolumeClaim, volume: &str) -> Result<(), Error> {
    if !growth::is_wanted(claim) {
        return Ok(());
    }
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let Some(volume) = volumes.get_opt(volume).await? else {
        return Ok(());
    };
    let claims = |reference: &api::k8s::api::core::v1::ObjectReference| reference.uid == claim.metadata.uid;
    let spec = volume.spec.as_ref();
    let is_bound = spec.and_then(|spec| spec.claim_ref.as_ref()).is_some_and(claims);
    if is_bound && is_ours(context, &volume) {
        growth::grow(context, claim, &volume).await?;
    }
    Ok(())
}

/// Whether a volume is the driver's, and here.
pub(crate) fn is_ours(context: &Context, volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    let is_driven = spec
        .and_then(|spec| spec.csi.as_ref())
        .is_some_and(|csi| csi.driver == context.driver.name);
    let affinity = spec.and_then(|spec| spec.node_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.required.as_ref())
        .map(|required| required.node_selector_terms.as_slice())
        .unwrap_or_default();
    let here = terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        !expressions.is_empty()
            && expressions.iter().all(|one| {
                let value = context.driver.topology.get(&one.key);
                one.operator == "In" && value.is_some_and(|value| one.values.iter().flatten().any(|v| v == value))
            })
    });
    is_driven && here
}
