//! The requests the scheduler makes: binding a pod, preparing its claims, saying why it waits, making others leave.

use crate::queue::Condition;
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use scheduler_plan::{Candidate, ClaimStep, SELECTED_NODE};
use serde_json::{Value, json};
use std::sync::Arc;

/// Says that we, not a person, promised a volume to its claim.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// What to write about a claim, with the objects as they were seen.
pub(crate) enum ClaimWrite {
    Choose {
        claim: Arc<PersistentVolumeClaim>,
        node: String,
    },
    Promise {
        claim: Arc<PersistentVolumeClaim>,
        volume: Arc<PersistentVolume>,
    },
}

impl ClaimWrite {
    /// The write for a step; none if the object has vanished (readiness will then tell).
    pub(crate) fn of(step: &ClaimStep, node: &str, snapshot: &scheduler_plan::Snapshot) -> Option<Self> {
        match step {
            ClaimStep::Provision { claim } => {
                let claim = Arc::clone(snapshot.claims.get(claim)?);
                Some(Self::Choose {
                    claim,
                    node: node.to_owned(),
                })
            }
            ClaimStep::Promise { claim, volume } => {
                let (claim, volume) = (snapshot.claims.get(claim)?, snapshot.volumes.get(volume)?);
                Some(Self::Promise {
                    claim: Arc::clone(claim),
                    volume: Arc::clone(volume),
                })
            }
        }
    }

    async fn send(self, client: &Client) -> kube::Result<()> {
        let params = PatchParams::default();
        match self {
            Self::Choose { claim, node } => {
                let (namespace, name) = names(&claim.metadata);
                let patch = json!({"metadata": {
                    "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
                    "annotations": {SELECTED_NODE: node}}});
                let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
                claims.patch_metadata(name, &params, &Patch::Merge(patch)).await?;
            }
            Self::Promise { claim, volume } => {
                let promise = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": claim.metadata.namespace, "name": claim.metadata.name,
                    "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version});
                let mut patch = json!({"metadata": {
                        "uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version},
                    "spec": {"claimRef": promise}});
                if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) {
                    patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
                }
                let volumes: Api<PersistentVolume> = Api::all(client.clone());
                volumes
                    .patch_metadata(names(&volume.metadata).1, &params, &Patch::Merge(patch))
                    .await?;
            }
        }
        Ok(())
    }
}

fn names(metadata: &kube::api::ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Writes all that a placement needs of claims and volumes.
pub(crate) async fn prepare_claims(client: &Client, writes: Vec<ClaimWrite>) -> kube::Result<()> {
    for write in writes {
        write.send(client).await?;
    }
    Ok(())
}

/// Binds a pod to a node; refused by the API server if the pod is not the one that was seen.
pub(crate) async fn bind(client: &Client, pod: &Candidate, node: &str) -> kube::Result<()> {
    let (namespace, name) = &pod.key;
    let binding = json!({"apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
        "target": {"kind": "Node", "name": node}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let _status: Value = pods
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await?;
    Ok(())
}

/// Writes the pod's PodScheduled condition: it waits, and why.
pub(crate) async fn explain(client: &Client, pod: &Candidate, condition: &Condition) -> kube::Result<()> {
    let (namespace, name) = &pod.key;
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [{
        "type": "PodScheduled", "status": condition.status, "reason": condition.reason,
        "message": condition.message, "lastTransitionTime": condition.since}]}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    Ok(())
}

/// Notes the node that is kept for a pod, tells those less important that it is not theirs, and deletes the pods that
/// must leave, which are told why in a condition.
pub(crate) async fn preempt(
    client: &Client,
    pod: &Candidate,
    node: &str,
    victims: &[Arc<Candidate>],
    passed_over: &[Arc<Candidate>],
) -> kube::Result<()> {
    patch_status(client, pod, &json!({"nominatedNodeName": node})).await?;
    for other in passed_over {
        unless_gone(patch_status(client, other, &json!({"nominatedNodeName": null})).await)?;
    }
    for victim in victims.iter().filter(|victim| !victim.is_terminating) {
        let condition = json!({"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format!("{:.0}", ambient::now())}]});
        unless_gone(patch_status(client, victim, &condition).await)?;
        let (namespace, name) = &victim.key;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let this_one = Preconditions {
            uid: Some(victim.uid.clone()),
            resource_version: None,
        };
        let params = DeleteParams::default().preconditions(this_one);
        unless_gone(pods.delete(name, &params).await.map(drop))?;
    }
    Ok(())
}

async fn patch_status(client: &Client, pod: &Candidate, status: &Value) -> kube::Result<()> {
    let (namespace, name) = &pod.key;
    let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::default();
    pods.patch_status(name, &params, &Patch::Strategic(patch))
        .await
        .map(drop)
}

/// What happened to a pod that is another one by now, or none, does not matter.
fn unless_gone(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}
