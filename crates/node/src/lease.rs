//! The node's lease: renewed every ten seconds, it tells that the node lives.

use crate::run::Node;
use api::k8s::api::coordination::v1::{Lease, LeaseSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where node leases are.
const NAMESPACE: &str = "kube-node-lease";
/// Between two renewals.
const PERIOD: Duration = Duration::from_secs(10);
/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(1);
/// How long others wait before they take the node for lost.
const DURATION_S: i32 = 40;

/// Renews the lease until shutdown.
pub(crate) async fn run(node: Arc<Node>, node_uid: String, shutdown: CancellationToken) {
    loop {
        let pause = match renew(&node, &node_uid).await {
            Ok(()) => PERIOD,
            Err(error) => {
                tracing::warn!(%error, "the node's lease could not be renewed, trying again");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(node: &Node, node_uid: &str) -> Result<(), kube::Error> {
    let name = &node.config.node_name;
    let leases: Api<Lease> = Api::namespaced(node.client.clone(), NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": DURATION_S, "renewTime": now});
    match leases
        .patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec})))
        .await
    {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(DURATION_S),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}
