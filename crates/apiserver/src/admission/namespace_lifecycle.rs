//! NamespaceLifecycle: new objects need a live namespace, and some namespaces cannot be deleted.

use super::{Operation, Review, kind};
use crate::create::text;
use crate::server::Server;
use crate::status::Outcome;
use crate::stored::Stored;
use api::error::Status;
use api::kinds::Kind;
use serde_json::{Value, json};
use store::Revision;

/// Namespaces that the cluster cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) async fn mutate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let call = review.call;
    if review.operation == Operation::Create && call.kind.namespaced {
        let name = text(&object["metadata"]["name"]).unwrap_or_default();
        live_namespace(review.server, &call.kind, &call.namespace, name).await?;
    }
    Ok(())
}

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if review.is("", "Namespace", &[Operation::Delete]) && IMMORTAL.contains(&name) {
        return Err(review.forbidden(object, "this namespace may not be deleted"));
    }
    Ok(())
}

/// The key and revision of a namespace that takes new objects: whoever creates one in it makes sure, in the same
/// transaction, that it still does.
pub(crate) async fn live_namespace(
    server: &Server,
    of: &Kind,
    namespace: &str,
    name: &str,
) -> Outcome<(String, Revision)> {
    let kv = server.existing(kind("", "namespaces"), "", namespace).await?;
    if Stored::from(&kv).is_going() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(of, name, &why);
        let message = format!("namespace {namespace} is being terminated");
        let cause = json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"});
        status.details["causes"] = json!([cause]);
        return Err(Box::new(status));
    }
    Ok((kv.key.to_string(), kv.mod_revision))
}
