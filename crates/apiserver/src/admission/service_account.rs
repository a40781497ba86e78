//! ServiceAccount: every pod runs as an account of its namespace.

use super::{Operation, Review, kind};
use crate::clock;
use crate::create::text;
use crate::names;
use crate::status::Outcome;
use crate::stored::Stored;
use bytes::Bytes;
use serde_json::{Value, json};

pub(super) async fn mutate(review: &Review<'_>, pod: &mut Value) -> Outcome<()> {
    if !review.is("", "Pod", &[Operation::Create]) {
        return Ok(());
    }
    let spec = &pod["spec"];
    let name = text(&spec["serviceAccountName"])
        .or_else(|| text(&spec["serviceAccount"]))
        .unwrap_or("default")
        .to_owned();
    let namespace = &review.call.namespace;
    // Every namespace is made with its default account, so only others need a look.
    if name != "default" {
        let found = review.server.read(kind("", "serviceaccounts"), namespace, &name);
        if found.await?.is_none() {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(review.forbidden(pod, &why));
        }
    }
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    Ok(())
}

/// The account that each namespace has from its first moment on: its key and its value.
pub(crate) fn default_service_account(namespace: &str) -> (String, Bytes) {
    let accounts = kind("", "serviceaccounts");
    let metadata = json!({"name": "default", "namespace": namespace, "uid": names::uid(),
        "creationTimestamp": clock::now_text()});
    (
        names::key(accounts, namespace, "default"),
        Stored::encode(accounts, &json!({"metadata": metadata})),
    )
}
