//! Events for people: told once, counted when they repeat, never in the way of work.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{Event as CoreEvent, EventSource, ObjectReference};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use controllers_plan::{Event, EventType, Kind, Target};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::debug;

/// Events waiting to be written; more are dropped, for they tell of a storm and not of news.
const WAITING_MAX: usize = 1024;

/// How many different events are remembered so as to count their repetition.
const REMEMBERED_MAX: usize = 4096;

/// How many events in a row one object may have …
const BURST: f64 = 25.0;

/// … and after how many seconds it may have another one. Both as upstream's.
const REFILL_S: f64 = 300.0;

/// Takes events from the controllers.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<(&'static str, Event)>,
}

/// Writes them, in a task of its own.
pub(crate) struct Writer {
    client: Client,
    receiver: mpsc::Receiver<(&'static str, Event)>,
    told: BTreeMap<Told, Telling>,
    allowances: BTreeMap<(&'static str, String), Allowance>,
}

/// What makes two events the same: controller, uid of the object, type, reason and message.
type Told = (&'static str, String, &'static str, &'static str, String);

struct Telling {
    name: String,
    count: i32,
    last: Timestamp,
}

struct Allowance {
    left: f64,
    since: Timestamp,
}

/// The two ends of the events' way.
pub(crate) fn channel(client: Client) -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (
        Recorder { sender },
        Writer {
            client,
            receiver,
            told: BTreeMap::new(),
            allowances: BTreeMap::new(),
        },
    )
}

impl Recorder {
    /// Takes an event; it is written some time, or dropped when there are too many.
    pub(crate) fn record(&self, controller: &'static str, event: Event) {
        if let Err(error) = self.sender.try_send((controller, event)) {
            debug!(%error, "event dropped");
        }
    }
}

impl Writer {
    /// Writes events until there is no recorder any more.
    pub(crate) async fn run(mut self) {
        while let Some((controller, event)) = self.receiver.recv().await {
            let now = ambient::now();
            if !self.allow(controller, &event, now) {
                continue;
            }
            if let Err(error) = self.write(controller, &event, now).await {
                debug!(reason = event.notice.reason, object = %event.about.key, %error, "event lost");
            }
        }
    }

    fn allow(&mut self, controller: &'static str, event: &Event, now: Timestamp) -> bool {
        forget_oldest(&mut self.allowances, |allowance| allowance.since);
        let uid = event.about.uid.clone();
        let fresh = Allowance {
            left: BURST,
            since: now,
        };
        let allowance = self.allowances.entry((controller, uid)).or_insert(fresh);
        let idle_s = (now.as_second() - allowance.since.as_second()).max(0);
        // At most some decades of seconds: exact as a float.
        #[expect(clippy::cast_precision_loss, reason = "seconds of idleness are far below 2^52")]
        let refilled = allowance.left + idle_s as f64 / REFILL_S;
        *allowance = Allowance {
            left: refilled.min(BURST),
            since: now,
        };
        let allowed = allowance.left >= 1.0;
        if allowed {
            allowance.left -= 1.0;
        }
        allowed
    }

    async fn write(&mut self, controller: &'static str, event: &Event, now: Timestamp) -> Result<(), kube::Error> {
        let told = told(controller, event);
        let path = Request::new(Kind::of::<CoreEvent>().path(namespace_of(&event.about)));
        if let Some(telling) = self.told.get_mut(&told) {
            telling.count += 1;
            telling.last = now;
            let patch = json!({ "count": telling.count, "lastTimestamp": Time(now) });
            let params = PatchParams {
                field_manager: Some(controller.to_owned()),
                ..PatchParams::default()
            };
            let request = path
                .patch(&telling.name, &params, &Patch::Merge(patch))
                .map_err(kube::Error::BuildRequest)?;
            let patched = self.client.request::<Value>(request).await;
            if !matches!(&patched, Err(kube::Error::Api(status)) if status.code == 404) {
                return patched.map(drop);
            }
            // Events are kept for a while only; then the story begins anew.
        }
        let name = format!("{}.{:x}", event.about.key.name, now.as_nanosecond());
        let body = core_event(controller, event, &name, now);
        let body = serde_json::to_vec(&body).map_err(kube::Error::SerdeError)?;
        let params = PostParams {
            field_manager: Some(controller.to_owned()),
            ..PostParams::default()
        };
        let request = path.create(&params, body).map_err(kube::Error::BuildRequest)?;
        self.client.request::<Value>(request).await?;
        forget_oldest(&mut self.told, |telling| telling.last);
        self.told.insert(
            told,
            Telling {
                name,
                count: 1,
                last: now,
            },
        );
        Ok(())
    }
}

fn told(controller: &'static str, event: &Event) -> Told {
    let notice = &event.notice;
    (
        controller,
        event.about.uid.clone(),
        type_of(event),
        notice.reason,
        notice.message.clone(),
    )
}

fn type_of(event: &Event) -> &'static str {
    match event.event_type {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

/// Events about cluster-wide objects live in `default`.
fn namespace_of(about: &Target) -> &str {
    if about.key.namespace.is_empty() {
        "default"
    } else {
        &about.key.namespace
    }
}

fn core_event(controller: &str, event: &Event, name: &str, now: Timestamp) -> CoreEvent {
    let about = &event.about;
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    CoreEvent {
        metadata: ObjectMeta {
            name: some(name),
            namespace: some(namespace_of(about)),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(about.key.kind.api_version()),
            kind: some(about.key.kind.kind),
            namespace: some(&about.key.namespace),
            name: some(&about.key.name),
            uid: some(&about.uid),
            resource_version: some(&about.resource_version),
            ..ObjectReference::default()
        },
        type_: some(type_of(event)),
        reason: some(event.notice.reason),
        message: some(&event.notice.message),
        source: Some(EventSource {
            component: some(controller),
            host: None,
        }),
        reporting_component: some(controller),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..CoreEvent::default()
    }
}

/// Keeps a memory within its bound.
fn forget_oldest<K: Ord + Clone, V>(memory: &mut BTreeMap<K, V>, age: impl Fn(&V) -> Timestamp) {
    if memory.len() < REMEMBERED_MAX {
        return;
    }
    let mut ages: Vec<_> = memory.values().map(&age).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    memory.retain(|_, value| age(value) > median);
}
