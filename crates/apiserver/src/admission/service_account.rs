//! ServiceAccount: every pod runs as an account of its namespace, with a token of it, and pulls images with its secrets.

use super::{Operation, Review, kind};
use crate::clock;
use crate::create::text;
use crate::names;
use crate::server::Server;
use crate::status::Outcome;
use crate::stored::Stored;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The volume with the token, and where containers find it.
const VOLUME: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a pod's token is good; upstream's figure, by which the issuer knows it (see `tokens::request`).
const TOKEN_S: u32 = 3607;

/// A namespace's account `default` is made anew when it was deleted; a pod waits for it as long as upstream lets it.
const DEFAULT_ATTEMPTS: usize = 10;
const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn mutate(review: &Review<'_>, pod: &mut Value) -> Outcome<()> {
    if !review.is("", "Pod", &[Operation::Create]) || !pod["metadata"]["annotations"][MIRROR].is_null() {
        return Ok(());
    }
    let spec = &pod["spec"];
    let name = text(&spec["serviceAccountName"])
        .or_else(|| text(&spec["serviceAccount"]))
        .unwrap_or(DEFAULT)
        .to_owned();
    let namespace = &review.call.namespace;
    let Some(account) = account(review.server, namespace, &name).await? else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(review.forbidden(pod, &why));
    };
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let own = &pod["spec"]["automountServiceAccountToken"];
    let wish = own.as_bool().or(account["automountServiceAccountToken"].as_bool());
    if review.server.config.root_ca.is_some() && wish.unwrap_or(true) {
        mount_token(&mut pod["spec"], &names::generate(VOLUME));
    }
    let secrets = &account["imagePullSecrets"];
    let has_own = pod["spec"]["imagePullSecrets"]
        .as_array()
        .is_some_and(|own| !own.is_empty());
    if !has_own && secrets.as_array().is_some_and(|secrets| !secrets.is_empty()) {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

async fn account(server: &Server, namespace: &str, name: &str) -> Outcome<Option<Value>> {
    let accounts = kind("", "serviceaccounts");
    let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(DEFAULT_INTERVAL).await;
        }
        if let Some(found) = server.read(accounts, namespace, name).await? {
            return Stored::from(&found).object(accounts).map(Some);
        }
    }
    Ok(None)
}

/// Mounts a token into every container that has nothing else at its place.
fn mount_token(spec: &mut Value, new_name: &str) {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let known = volumes
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME));
    let (name, is_known) = (known.unwrap_or(new_name).to_owned(), known.is_some());
    let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        for container in spec[field].as_array_mut().into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if !mounts.is_array() {
                *mounts = json!([]);
            }
            let mounts = mounts.as_array_mut().expect("it was made an array above");
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(mount.clone());
                needed = true;
            }
            if mounts.is_empty() {
                crate::create::remove(container, "volumeMounts");
            }
        }
    }
    if is_known || !needed {
        return;
    }
    if !spec["volumes"].is_array() {
        spec["volumes"] = json!([]);
    }
    let volumes = spec["volumes"].as_array_mut().expect("it was made an array above");
    volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_S, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
}

/// The account that each namespace has from its first moment on: its key and its value.
pub(crate) fn default_service_account(namespace: &str) -> (String, Bytes) {
    let accounts = kind("", "serviceaccounts");
    let metadata = json!({"name": DEFAULT, "namespace": namespace, "uid": names::uid(),
        "creationTimestamp": clock::now_text()});
    (
        names::key(accounts, namespace, DEFAULT),
        Stored::encode(accounts, &json!({"metadata": metadata})),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_mounted_where_nothing_else_is() {
        let mut spec = json!({"initContainers": [{"name": "i", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}],
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}]});
        mount_token(&mut spec, "kube-api-access-abcde");
        let mount = json!({"name": "kube-api-access-abcde", "readOnly": true, "mountPath": MOUNT_PATH});
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], "own");
        assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
        assert_eq!(spec["containers"][1]["volumeMounts"][1], mount);
        assert_eq!(spec["volumes"][0]["projected"]["defaultMode"], 420);
        assert_eq!(spec["volumes"][0]["projected"]["sources"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_volume_that_is_there_already_is_used() {
        let mut spec =
            json!({"containers": [{"name": "a"}], "volumes": [{"name": "kube-api-access-own", "emptyDir": {}}]});
        mount_token(&mut spec, "kube-api-access-abcde");
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-own");
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
    }
}
