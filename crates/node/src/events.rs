//! Events: what people see in `kubectl describe`. They are sent by a task of their own; a full queue drops them, never
//! blocks a pod.

use api::k8s::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// More events than this wait only when the API is away; then newer ones are dropped.
const QUEUE: usize = 1024;
/// Repeated events are remembered up to this number.
const REMEMBERED: usize = 4096;

/// Whether an event is bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    /// Nothing is wrong.
    Normal,
    /// Something is.
    Warning,
}

/// Takes events from everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<News>,
}

#[derive(Debug)]
struct News {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// The same happening again is counted, not told anew.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sameness {
    uid: String,
    field: String,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// A recorder and the task that sends its events.
    pub(crate) fn new(
        client: Client,
        node_name: String,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, news) = mpsc::channel(QUEUE);
        (Self { queue }, send_all(client, node_name, news, shutdown))
    }

    /// Tells something of a pod, or of one of its containers.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let init = |name: &str| {
            let list = pod
                .spec
                .as_ref()
                .and_then(|s| s.init_containers.as_deref())
                .unwrap_or_default();
            list.iter().any(|c| c.name == name)
        };
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| {
                let list = if init(name) { "initContainers" } else { "containers" };
                format!("spec.{list}{{{name}}}")
            }),
        };
        self.tell(about, severity, reason, message.into());
    }

    /// Tells something of the node.
    pub(crate) fn node(&self, node: &Node, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: node.metadata.name.clone(),
            // Upstream puts the name here, so that describe finds events of the node as it was before a re-registration.
            uid: node.metadata.name.clone(),
            ..ObjectReference::default()
        };
        self.tell(about, severity, reason, message.into());
    }

    fn tell(&self, about: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        let news = News {
            about,
            severity,
            reason,
            message,
            at: Timestamp::now(),
        };
        if let Err(dropped) = self.queue.try_send(news) {
            tracing::debug!(error = %dropped, "an event is dropped");
        }
    }
}

async fn send_all(client: Client, node_name: String, mut news: mpsc::Receiver<News>, shutdown: CancellationToken) {
    let mut known: HashMap<Sameness, (String, i32)> = HashMap::new();
    loop {
        let one = tokio::select! {
            () = shutdown.cancelled() => return,
            one = news.recv() => one,
        };
        let Some(one) = one else { return };
        if known.len() > REMEMBERED {
            known.clear();
        }
        let about = one.about.clone();
        let reason = one.reason;
        if let Err(error) = send(&client, &node_name, one, &mut known).await {
            tracing::debug!(%error, reason, pod = about.name.as_deref(), "an event could not be written");
        }
    }
}

async fn send(
    client: &Client,
    node_name: &str,
    news: News,
    known: &mut HashMap<Sameness, (String, i32)>,
) -> Result<(), kube::Error> {
    let namespace = news.about.namespace.clone().unwrap_or_else(|| "default".into());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let same = Sameness {
        uid: news.about.uid.clone().unwrap_or_default(),
        field: news.about.field_path.clone().unwrap_or_default(),
        reason: news.reason,
        message: news.message.clone(),
    };
    let seconds = Timestamp::from_second(news.at.as_second()).unwrap_or(news.at);
    if let Some((name, count)) = known.get_mut(&same) {
        *count += 1;
        let patch = json!({"count": *count, "lastTimestamp": Time(seconds)});
        match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            // Expired meanwhile: tell it anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let name = format!(
        "{}.{:x}",
        news.about.name.as_deref().unwrap_or_default(),
        news.at.as_nanosecond()
    );
    events
        .create(
            &PostParams::default(),
            &event(&name, &namespace, node_name, news, seconds),
        )
        .await?;
    known.insert(same, (name, 1));
    Ok(())
}

fn event(name: &str, namespace: &str, node_name: &str, news: News, seconds: Timestamp) -> Event {
    let severity = match news.severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: news.about,
        type_: Some(severity.into()),
        reason: Some(news.reason.into()),
        message: Some(news.message),
        count: Some(1),
        first_timestamp: Some(Time(seconds)),
        last_timestamp: Some(Time(seconds)),
        event_time: None::<MicroTime>,
        source: Some(EventSource {
            component: Some("kubelet".into()),
            host: Some(node_name.to_owned()),
        }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node_name.to_owned()),
        ..Event::default()
    }
}
