//! Brings pod statuses to the API: only what changed, until it is there.

use api::k8s::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Between two tries to write a status.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest time between two tries.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Writes the status of one pod.
#[derive(Debug)]
pub(crate) struct Publisher {
    wanted: watch::Sender<Wanted>,
    done: watch::Receiver<u64>,
    latest: watch::Receiver<Option<Pod>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    number: u64,
    status: PodStatus,
    pod: Pod,
}

impl Publisher {
    /// A publisher for a pod; `wake` is called when the API's answer brought a newer object.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let (wanted, wanted_rx) = watch::channel(Wanted::default());
        let (done_tx, done) = watch::channel(0);
        let (latest_tx, latest) = watch::channel(None);
        let task = tokio::spawn(write_all(api, wanted_rx, done_tx, latest_tx));
        Self {
            wanted,
            done,
            latest,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Asks for a status, given the object as last seen.
    pub(crate) fn publish(&self, pod: &Pod, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            if wanted.number > 0
                && wanted.status == status
                && wanted.pod.metadata == pod.metadata
                && wanted.pod.status == pod.status
            {
                return false;
            }
            *wanted = Wanted {
                number: wanted.number + 1,
                status,
                pod: pod.clone(),
            };
            true
        });
    }

    /// Waits until what was asked for is written (or the pod is gone).
    pub(crate) fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        let number = self.wanted.borrow().number;
        let mut done = self.done.clone();
        async move {
            // The writer ends only with the publisher.
            if done.wait_for(|n| *n >= number).await.is_err() {
                tracing::debug!("the status writer has ended");
            }
        }
    }

    /// The object as the API answered the last write.
    pub(crate) fn latest(&self) -> Option<Pod> {
        self.latest.borrow().clone()
    }
}

/// Whether `a` is a later state of the same object than `b`.
pub(crate) fn is_newer(a: &Pod, b: &Pod) -> bool {
    let version = |pod: &Pod| pod.resource_version().and_then(|v| v.parse::<u64>().ok());
    match (version(a), version(b)) {
        (Some(a), Some(b)) => a > b,
        _ => false,
    }
}

async fn write_all(
    api: Api<Pod>,
    mut wanted: watch::Receiver<Wanted>,
    done: watch::Sender<u64>,
    latest: watch::Sender<Option<Pod>>,
) {
    let mut pause = RETRY_MIN;
    while wanted.changed().await.is_ok() {
        loop {
            let Wanted { number, status, pod } = wanted.borrow_and_update().clone();
            let base = latest.borrow().clone().filter(|own| is_newer(own, &pod)).unwrap_or(pod);
            match write(&api, &base, &status).await {
                Ok(answer) => {
                    pause = RETRY_MIN;
                    if answer.is_some() {
                        latest.send_replace(answer);
                    }
                    done.send_replace(number);
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, pod = base.name_any(), "the pod's status could not be written, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

/// Writes what differs; the API's answer if anything was written.
async fn write(api: &Api<Pod>, base: &Pod, status: &PodStatus) -> Result<Option<Pod>, kube::Error> {
    let current = base.status.clone().unwrap_or_default();
    let Some(changes) = changes(&current, status) else {
        return Ok(None);
    };
    let patch = json!({"metadata": {"uid": base.metadata.uid}, "status": changes});
    match api
        .patch_status(&base.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(pod) => Ok(Some(pod)),
        // Gone: nobody reads this status any more.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
        // Another pod of that name by now, or somebody wrote at the same moment.
        Err(kube::Error::Api(answer)) if answer.code == 409 => match api.get_opt(&base.name_any()).await? {
            Some(now) if now.metadata.uid == base.metadata.uid => Err(kube::Error::Api(answer)),
            _ => Ok(None),
        },
        // The API says our patch is wrong; the same again would be as wrong.
        Err(kube::Error::Api(answer)) if answer.code == 422 || answer.code == 400 => {
            tracing::error!(
                message = answer.message,
                pod = base.name_any(),
                "the API refuses the pod's status"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The strategic merge patch from one status to another; `None` if they are the same.
fn changes(current: &PodStatus, wanted: &PodStatus) -> Option<Value> {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (current, wanted) = (fields(current), fields(wanted));
    let mut patch = Map::new();
    for (name, value) in &wanted {
        if current.get(name) == Some(value) {
            continue;
        }
        let change = match name.as_str() {
            "conditions" => changed_conditions(current.get(name), value),
            // Lists that a strategic merge would join with what is there.
            "podIPs" => replaced(value),
            _ => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    for name in current.keys().filter(|name| !wanted.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    if patch.is_empty() {
        None
    } else {
        Some(Value::Object(patch))
    }
}

/// The conditions that differ, leaving alone those that others write.
fn changed_conditions(current: Option<&Value>, wanted: &Value) -> Option<Value> {
    let current = current.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let by_type = |condition: &Value| current.iter().find(|c| c["type"] == condition["type"]).cloned();
    let mut changed = Vec::new();
    for condition in wanted.as_array()? {
        let old = by_type(condition);
        if old.as_ref() == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        // A merge keeps what is not mentioned.
        for name in ["reason", "message"] {
            let had = old.as_ref().is_some_and(|o| o.get(name).is_some());
            if let (true, Some(fields)) = (had, condition.as_object_mut()) {
                fields.entry(name).or_insert(Value::Null);
            }
        }
        changed.push(condition);
    }
    let is_wanted = |type_: &Value| wanted.as_array().into_iter().flatten().any(|c| c["type"] == *type_);
    for gone in current.iter().filter(|c| !is_wanted(&c["type"])) {
        changed.push(json!({"$patch": "delete", "type": gone["type"]}));
    }
    if changed.is_empty() {
        None
    } else {
        Some(Value::Array(changed))
    }
}

fn replaced(list: &Value) -> Option<Value> {
    let items = list.as_array()?.iter().cloned();
    Some(Value::Array(
        std::iter::once(json!({"$patch": "replace"})).chain(items).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{PodCondition, PodIP};

    fn condition(type_: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.map(Into::into),
            ..PodCondition::default()
        }
    }

    #[test]
    fn same_status_needs_no_patch() {
        let status = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        assert_eq!(changes(&status, &status.clone()), None);
    }

    #[test]
    fn only_changed_conditions_are_sent() {
        let of = |ready: &str, reason: Option<&str>| PodStatus {
            conditions: Some(vec![
                condition("PodScheduled", "True", None),
                condition("Ready", ready, reason),
            ]),
            ..PodStatus::default()
        };
        let patch = changes(&of("False", Some("ContainersNotReady")), &of("True", None)).unwrap();
        assert_eq!(
            patch,
            json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}]})
        );
    }

    #[test]
    fn addresses_are_replaced_and_absent_fields_removed() {
        let old = PodStatus {
            message: Some("m".into()),
            ..PodStatus::default()
        };
        let new = PodStatus {
            pod_ips: Some(vec![PodIP { ip: "10.0.0.1".into() }]),
            ..PodStatus::default()
        };
        let patch = changes(&old, &new).unwrap();
        assert_eq!(
            patch,
            json!({"podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.1"}], "message": null})
        );
    }
}
