//! What a new object needs around it, and what the cluster adds to it: live namespaces, service accounts, priorities,
//! default storage classes, protection of claims and volumes.

use crate::call::Call;
use crate::clock;
use crate::create::{remove, text};
use crate::names;
use crate::server::Server;
use crate::status::{Outcome, bad_request};
use crate::stored::Stored;
use api::error::Status;
use api::kinds::{self, Kind};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::Revision;

/// Marks the StorageClass of claims that name none.
pub(crate) const DEFAULT_CLASS_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";

const SYSTEM_PRIORITIES: &[(&str, i64)] = &[
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// A kind that the server itself needs.
pub(crate) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_resource(group, "v1", plural).expect("the table of kinds has all that the server itself needs")
}

/// Makes the object's namespace that of the path.
pub(crate) fn settle_namespace(call: &Call, object: &mut Value) -> Outcome<()> {
    let given = text(&object["metadata"]["namespace"]);
    if given.is_some_and(|given| given != call.namespace) {
        let message = if call.kind.namespaced {
            "the namespace of the provided object does not match the namespace sent on the request"
        } else {
            "namespace is not allowed on this type"
        };
        return Err(bad_request(message));
    }
    if call.kind.namespaced {
        object["metadata"]["namespace"] = json!(call.namespace);
    } else {
        remove(&mut object["metadata"], "namespace");
    }
    Ok(())
}

/// The key and revision of a namespace that takes new objects.
pub(crate) async fn live_namespace(
    server: &Server,
    of: &Kind,
    namespace: &str,
    name: &str,
) -> Outcome<(String, Revision)> {
    let namespaces = kind("", "namespaces");
    let kv = server.existing(namespaces, "", namespace).await?;
    if !Stored::from(&kv).metadata()["deletionTimestamp"].is_null() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(of, name, &why);
        let message = format!("namespace {namespace} is being terminated");
        let cause = json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"});
        status.details["causes"] = json!([cause]);
        return Err(Box::new(status));
    }
    Ok((kv.key.to_string(), kv.mod_revision))
}

/// Removes owner references that stand twice; the warning to give then.
pub(crate) fn distinct_owners(metadata: &mut Value) -> Option<String> {
    let owners = metadata.get_mut("ownerReferences")?.as_array_mut()?;
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    let mut kept: Vec<Value> = Vec::new();
    for owner in owners.drain(..) {
        let uid = owner["uid"].as_str().unwrap_or("").to_owned();
        if seen.insert(uid.clone()) || !kept.contains(&owner) {
            kept.push(owner);
        } else {
            twice.insert(uid);
        }
    }
    *owners = kept;
    let twice: Vec<String> = twice.into_iter().collect();
    let text = ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
                may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: ";
    (!twice.is_empty()).then(|| format!("{text}{}", twice.join(", ")))
}

/// Adds to a new object what the cluster knows and its author left open.
pub(crate) async fn complete(server: &Server, kind: &Kind, object: &mut Value) -> Outcome<()> {
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            service_account(server, kind, object).await?;
            priority(server, kind, object).await?;
            default_tolerations(object);
        }
        ("", "PersistentVolumeClaim") => {
            default_storage_class(server, object).await?;
            add_finalizer(object, "kubernetes.io/pvc-protection");
        }
        ("", "PersistentVolume") => add_finalizer(object, "kubernetes.io/pv-protection"),
        _ => {}
    }
    Ok(())
}

async fn service_account(server: &Server, pods: &Kind, pod: &mut Value) -> Outcome<()> {
    let spec = &pod["spec"];
    let name = text(&spec["serviceAccountName"])
        .or_else(|| text(&spec["serviceAccount"]))
        .unwrap_or("default")
        .to_owned();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    // Every namespace is made with its default account, so only others need a look.
    if name != "default"
        && server
            .read(kind("", "serviceaccounts"), &namespace, &name)
            .await?
            .is_none()
    {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(forbidden(pods, pod, &why));
    }
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    Ok(())
}

async fn priority(server: &Server, pods: &Kind, pod: &mut Value) -> Outcome<()> {
    let named = text(&pod["spec"]["priorityClassName"]).map(str::to_owned);
    let system = SYSTEM_PRIORITIES
        .iter()
        .find(|(name, _)| named.as_deref() == Some(name));
    let class = match (&named, system) {
        (_, Some((_, value))) => Some(json!({"value": value})),
        (named, None) => priority_class(server, named.as_deref()).await?,
    };
    if let (Some(named), None) = (&named, &class) {
        return Err(forbidden(
            pods,
            pod,
            &format!("no PriorityClass with name {named} was found"),
        ));
    }
    let class = class.unwrap_or_default();
    let value = class["value"].as_i64().unwrap_or(0);
    let given = pod["spec"]["priority"].as_i64();
    if let Some(given) = given.filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        );
        return Err(forbidden(pods, pod, &why));
    }
    let spec = &mut pod["spec"];
    if let Some(name) = text(&class["metadata"]["name"]) {
        spec["priorityClassName"] = json!(name);
    }
    spec["priority"] = json!(value);
    if text(&spec["preemptionPolicy"]).is_none() {
        spec["preemptionPolicy"] = json!(text(&class["preemptionPolicy"]).unwrap_or("PreemptLowerPriority"));
    }
    Ok(())
}

/// The class of a name, or the global default.
async fn priority_class(server: &Server, name: Option<&str>) -> Outcome<Option<Value>> {
    let Some(classes) = kinds::by_resource("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(None);
    };
    if let Some(name) = name {
        let found = server.read(classes, "", name).await?;
        return found.map(|kv| Stored::from(&kv).object(classes)).transpose();
    }
    let all = server.read_all(classes).await?;
    let all: Vec<Value> = all.iter().map(|class| class.object(classes)).collect::<Outcome<_>>()?;
    let defaults = all.into_iter().filter(|class| class["globalDefault"] == json!(true));
    Ok(defaults.min_by_key(|class| class["value"].as_i64()))
}

/// Pods stay five minutes on a node that is lost, unless they say otherwise.
fn default_tolerations(pod: &mut Value) {
    const TOLERATED_S: u32 = 300;
    let spec = &mut pod["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let (key, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
            key.is_none_or(|key| key == taint) && effect.is_none_or(|effect| effect == "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_S}));
        }
    }
}

async fn default_storage_class(server: &Server, claim: &mut Value) -> Outcome<()> {
    let by_annotation = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    // An empty name is a choice, too: no class at all.
    if !claim["spec"]["storageClassName"].is_null() || !by_annotation.is_null() {
        return Ok(());
    }
    let classes = kind("storage.k8s.io", "storageclasses");
    let all = server.read_all(classes).await?;
    let default = all
        .iter()
        .map(Stored::metadata)
        .filter(|metadata| metadata["annotations"][DEFAULT_CLASS_ANNOTATION] == "true")
        .max_by_key(|metadata| metadata["creationTimestamp"].as_str().unwrap_or("").to_owned());
    if let Some(metadata) = default {
        claim["spec"]["storageClassName"] = metadata["name"].clone();
    }
    Ok(())
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = &mut object["metadata"];
    if !metadata["finalizers"].is_array() {
        metadata["finalizers"] = json!([]);
    }
    let finalizers = metadata["finalizers"]
        .as_array_mut()
        .expect("it was made an array above");
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(json!(finalizer));
    }
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

fn forbidden(kind: &Kind, object: &Value, why: &str) -> Box<Status> {
    let metadata = &object["metadata"];
    let name = text(&metadata["name"])
        .or_else(|| text(&metadata["generateName"]))
        .unwrap_or("");
    Box::new(Status::forbidden(kind, name, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_stand_twice_are_kept_once_with_a_warning() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1"});
        let mut metadata = json!({"ownerReferences": [owner, owner]});
        assert!(distinct_owners(&mut metadata).unwrap().ends_with("observed: 1"));
        assert_eq!(metadata["ownerReferences"], json!([owner]));
        assert_eq!(distinct_owners(&mut metadata), None);
    }

    #[test]
    fn tolerations_of_the_author_stand() {
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        default_tolerations(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
        let mut pod = json!({"spec": {}});
        default_tolerations(&mut pod);
        assert_eq!(pod["spec"]["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
    }
}
