//! One action, said in HTTP: preconditions in, the written version out. Decides nothing.

use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use controllers_plan::{Guard, Key, Propagation, Target, Write};
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::core::params::GetParams;
use serde::Deserialize;
use serde_json::{Value, json};

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The server was asked right before the write, and something else is true than was seen.
    #[error("{key}: {what}")]
    Guard { key: Box<Key>, what: &'static str },
    /// The server did not do it.
    #[error("{verb} {key}")]
    Write {
        verb: &'static str,
        key: Box<Key>,
        source: Box<kube::Error>,
    },
}

/// What a write did, so that caches can be checked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: Key,
    pub(crate) effect: Effect,
}

/// The trace that a write must leave in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The cache has come to this version.
    Version(u64),
    /// The object of this uid is gone or going.
    Deleted(String),
}

/// The part of an answer that matters here.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// The part of a list that matters here.
#[derive(Deserialize)]
struct Heads {
    items: Vec<Head>,
}

impl Refused {
    /// Whether it only means that the plan was made from what is no longer true; nobody needs to hear of it.
    pub(crate) fn is_outdated(&self) -> bool {
        match self {
            Self::Guard { .. } => true,
            Self::Write { source, .. } => matches!(status_code(source), Some(409)),
        }
    }

    /// The cause as an event tells it: the server's own words where there are any.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Guard { what, .. } => (*what).to_owned(),
            Self::Write { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
        }
    }
}

/// Does one write.
pub(crate) async fn send(client: &Client, write: &Write, field_manager: &str) -> Result<Written, Refused> {
    match write {
        Write::Create(object) => {
            let params = PostParams {
                field_manager: Some(field_manager.to_owned()),
                ..PostParams::default()
            };
            let path = Request::new(object.key.kind.path(&object.key.namespace));
            let request = path.create(&params, object.body.to_string().into_bytes());
            written("create", client, &object.key, request).await
        }
        Write::Patch {
            target,
            subresource,
            patch,
        } => {
            let params = PatchParams {
                field_manager: Some(field_manager.to_owned()),
                ..PatchParams::default()
            };
            let patch = Patch::Merge(with_preconditions(target, patch));
            let path = path_of(&target.key);
            let name = &target.key.name;
            let request = match *subresource {
                "" => path.patch(name, &params, &patch),
                subresource => path.patch_subresource(subresource, name, &params, &patch),
            };
            written("patch", client, &target.key, request).await
        }
        Write::Replace {
            target,
            subresource,
            body,
        } => {
            let params = PostParams {
                field_manager: Some(field_manager.to_owned()),
                ..PostParams::default()
            };
            let body = with_preconditions(target, body).to_string().into_bytes();
            let path = path_of(&target.key);
            let name = &target.key.name;
            let request = match *subresource {
                "" => path.replace(name, &params, body),
                subresource => path.replace_subresource(subresource, name, &params, body),
            };
            written("replace", client, &target.key, request).await
        }
        Write::Delete { target, propagation } => delete(client, target, *propagation, None).await,
        Write::Kill { target } => delete(client, target, None, Some(0)).await,
    }
}

/// Asks the server whether a guard holds.
pub(crate) async fn check(client: &Client, guard: &Guard) -> Result<(), Refused> {
    match guard {
        Guard::Alive(target) => match live(client, &target.key).await? {
            Some(meta) if meta.uid.as_deref() != Some(&target.uid) => {
                refuse(&target.key, "another object has its name")
            }
            Some(meta) if meta.deletion_timestamp.is_some() => refuse(&target.key, "it is being deleted"),
            Some(_) => Ok(()),
            None => refuse(&target.key, "it is gone"),
        },
        Guard::Absent(key) => match live(client, key).await? {
            Some(_) => refuse(key, "it is there"),
            None => Ok(()),
        },
        Guard::Gone(target) => match live(client, &target.key).await? {
            Some(meta) if meta.uid.as_deref() == Some(&target.uid) => refuse(&target.key, "it is still there"),
            _ => Ok(()),
        },
        Guard::NoneLeft { kinds, namespace } => {
            for kind in kinds {
                let key = Key::new(*kind, namespace, "");
                if some_left(client, &key).await? {
                    return refuse(&key, "some are left");
                }
            }
            Ok(())
        }
    }
}

fn refuse(key: &Key, what: &'static str) -> Result<(), Refused> {
    Err(Refused::Guard {
        key: Box::new(key.clone()),
        what,
    })
}

async fn delete(
    client: &Client,
    target: &Target,
    propagation: Option<Propagation>,
    grace_period_seconds: Option<u32>,
) -> Result<Written, Refused> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: Some(target.resource_version.clone()).filter(|version| !version.is_empty()),
        }),
        propagation_policy: propagation.map(|propagation| match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Orphan => PropagationPolicy::Orphan,
        }),
        grace_period_seconds,
        ..DeleteParams::default()
    };
    let request = path_of(&target.key).delete(&target.key.name, &params);
    let answer: Result<Value, Refused> = ask("delete", client, &target.key, request).await;
    let gone = matches!(&answer, Err(Refused::Write { source, .. }) if status_code(source) == Some(404));
    if !gone {
        answer?;
    }
    Ok(Written {
        key: target.key.clone(),
        effect: Effect::Deleted(target.uid.clone()),
    })
}

async fn live(client: &Client, key: &Key) -> Result<Option<ObjectMeta>, Refused> {
    let request = path_of(key).get(&key.name, &GetParams::default());
    match ask::<Head>("get", client, key, request).await {
        Ok(head) => Ok(Some(head.metadata)),
        Err(Refused::Write { source, .. }) if status_code(&source) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn some_left(client: &Client, key: &Key) -> Result<bool, Refused> {
    let request = path_of(key).list(&ListParams::default().limit(1));
    match ask::<Heads>("list", client, key, request).await {
        Ok(list) => Ok(!list.items.is_empty()),
        // A kind that is not served has no objects.
        Err(Refused::Write { source, .. }) if status_code(&source) == Some(404) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn written(
    verb: &'static str,
    client: &Client,
    key: &Key,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Written, Refused> {
    let head: Head = ask(verb, client, key, request).await?;
    let version = head
        .metadata
        .resource_version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    Ok(Written {
        key: key.clone(),
        effect: Effect::Version(version),
    })
}

async fn ask<T: for<'de> Deserialize<'de>>(
    verb: &'static str,
    client: &Client,
    key: &Key,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<T, Refused> {
    let answer = match request {
        Ok(request) => client.request(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    answer.map_err(|source| Refused::Write {
        verb,
        key: Box::new(key.clone()),
        source: Box::new(source),
    })
}

fn path_of(key: &Key) -> Request {
    Request::new(key.kind.path(&key.namespace))
}

fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn with_preconditions(target: &Target, body: &Value) -> Value {
    let mut body = body.clone();
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    body["metadata"]["uid"] = json!(target.uid);
    if !target.resource_version.is_empty() {
        body["metadata"]["resourceVersion"] = json!(target.resource_version);
    }
    body
}
