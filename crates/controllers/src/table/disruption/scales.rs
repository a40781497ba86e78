//! How many pods an owner of any kind wants: asked of the server through `/scale` right before a budget is counted.

use api::k8s::apimachinery::pkg::apis::meta::v1::OwnerReference;
use controllers_plan::disruption::Scale;
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use tracing::debug;

use super::{Key, foreign_owners};
use crate::caches::Caches;

/// Looks up the scales of the owners that no cache knows, and notes them.
pub(crate) fn look_up<'a>(client: &'a Client, caches: &'a Caches, key: &'a Key) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        for owner in foreign_owners(caches, key) {
            let found = match scale(client, &key.namespace, &owner).await {
                Ok(found) => found,
                Err(error) => {
                    debug!(kind = owner.kind, name = owner.name, %error, "the scale of an owner is not known");
                    None
                }
            };
            caches.note_scale(&owner.uid, found);
        }
    })
}

/// The scale of an owner; `None` if it has none, or is another than the one that is meant.
async fn scale(client: &Client, namespace: &str, owner: &OwnerReference) -> Result<Option<Scale>, kube::Error> {
    let root = if owner.api_version.contains('/') {
        "/apis"
    } else {
        "/api"
    };
    let base = format!("{root}/{}", owner.api_version);
    let served = get(client, &base).await?;
    let resources = served["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |name: &str| resources.iter().any(|resource| resource["name"] == name);
    let is_meant = |resource: &&Value| {
        resource["kind"] == owner.kind.as_str() && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
    };
    let plural = resources
        .iter()
        .find(is_meant)
        .and_then(|resource| resource["name"].as_str());
    let Some(plural) = plural.filter(|plural| named(&format!("{plural}/scale"))) else {
        return Ok(None);
    };
    let scale = get(
        client,
        &format!("{base}/namespaces/{namespace}/{plural}/{}/scale", owner.name),
    )
    .await?;
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let is_same = scale["metadata"]["uid"] == owner.uid.as_str();
    Ok(is_same.then(|| Scale {
        uid: owner.uid.clone(),
        replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
    }))
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}
