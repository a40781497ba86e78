//! The events the scheduler tells about pods. They are for people: none may be late for them, but none is worth waiting for.

use api::k8s::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use scheduler_plan::{Candidate, Key};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A burst of pods tells two events each; more than this waiting means that the API server is in trouble.
const WAITING_MAX: usize = 8192;
/// How many events are remembered so that a repetition is counted instead of told again.
const REMEMBERED_MAX: usize = 4096;
const REPORTER: &str = "default-scheduler";

/// Something that happened to a pod.
pub(crate) struct Told {
    pub(crate) pod: Arc<Candidate>,
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) action: &'static str,
    pub(crate) note: String,
}

/// Where events are handed in.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<Told>);

impl Events {
    /// The two ends.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Hands an event in.
    pub(crate) fn tell(&self, told: Told) {
        if let Err(error) = self.0.try_send(told) {
            tracing::warn!(%error, "an event is lost");
        }
    }
}

/// Sends events until nobody hands any in.
pub(crate) async fn send(client: Client, mut events: mpsc::Receiver<Told>) {
    let mut remembered = Remembered::default();
    while let Some(told) = events.recv().await {
        if let Err(error) = remembered.send(&client, &told).await {
            let (namespace, name) = &told.pod.key;
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::debug!(namespace, pod = name, reason = told.reason, error, "an event is lost");
        }
    }
}

/// Which event said the same before: its name and how often.
#[derive(Default)]
struct Remembered {
    counts: BTreeMap<(String, String), (String, i32)>,
    order: VecDeque<(String, String)>,
}

impl Remembered {
    async fn send(&mut self, client: &Client, told: &Told) -> kube::Result<()> {
        let events: Api<Event> = Api::namespaced(client.clone(), &told.pod.key.0);
        let now = ambient::now();
        let id = (told.pod.uid.clone(), told.note.clone());
        if let Some((name, count)) = self.counts.get_mut(&id) {
            let last = format!("{now:.6}");
            let patch = json!({"series": {"count": *count + 1, "lastObservedTime": last}});
            match events
                .patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                // The first one has expired: tell it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    *count += 1;
                    return Ok(());
                }
            }
        }
        let name = format!("{}.{:x}", told.pod.key.1, now.as_nanosecond());
        events.create(&PostParams::default(), &event(told, &name, now)).await?;
        if told.is_warning {
            self.remember(id, name);
        }
        Ok(())
    }

    fn remember(&mut self, id: (String, String), name: String) {
        if self.counts.insert(id.clone(), (name, 1)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.counts.remove(&oldest);
            }
        }
    }
}

fn event(told: &Told, name: &str, now: jiff::Timestamp) -> Event {
    use api::k8s::apimachinery::pkg::apis::meta::v1::MicroTime;
    let (namespace, pod): &Key = &told.pod.key;
    Event {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.clone()),
            ..kube::api::ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if told.is_warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(told.reason.to_owned()),
        action: Some(told.action.to_owned()),
        note: Some(told.note.clone()),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(REPORTER.to_owned()),
        regarding: Some(api::k8s::api::core::v1::ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(pod.clone()),
            uid: Some(told.pod.uid.clone()),
            ..Default::default()
        }),
        ..Event::default()
    }
}
