//! A model node: it does with pods what a kubelet does, and its containers outlive its agent.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use api::k8s::api::core::v1::Pod;
use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::request::{self, PODS};
use crate::world::{Live, World};

/// How long the agent waits before it tries anything again.
const PAUSE: Duration = Duration::from_secs(1);

/// No container takes longer to end.
const GRACE_MAX: Duration = Duration::from_secs(5);

/// How often it says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Every so many heartbeats it writes its status anew, whatever others have written there.
const HEARTBEATS_PER_STATUS: u32 = 4;

/// What containers of an image do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Good,
    /// It takes long to become ready.
    Slow,
    /// It never becomes ready.
    Broken,
    /// It ends as soon as it starts, and the pod with it.
    Failing,
}

impl Conduct {
    fn of(image: &str) -> Self {
        match image.split('-').next() {
            Some("slow") => Self::Slow,
            Some("broken") => Self::Broken,
            Some("failing") => Self::Failing,
            _ => Self::Good,
        }
    }
}

struct Agent {
    world: World,
    node: usize,
    client: Client,
    chance: Chance,
    pods: BTreeMap<String, Pod>,
    /// When something is to be done about a pod although nothing changes.
    due: BTreeMap<String, Instant>,
    begins: BTreeMap<String, Instant>,
    is_listed: bool,
    listing: Vec<String>,
    heartbeats: u32,
}

/// Runs the agent of a node until it is dropped.
pub(crate) async fn run(world: World, node: usize, client: Client, seed: u64) {
    let chance = Chance::of(seed.wrapping_add(world.elapsed().as_secs()), &format!("node-{node}"));
    let mut agent = Agent {
        world,
        node,
        client: client.clone(),
        chance,
        pods: BTreeMap::new(),
        due: BTreeMap::new(),
        begins: BTreeMap::new(),
        is_listed: false,
        listing: Vec::new(),
        heartbeats: 0,
    };
    agent.register().await;
    let config = watcher::Config::default().fields(&format!("spec.nodeName=node-{node}"));
    let events = kube::runtime::watcher(Api::<Pod>::all(client), config).default_backoff();
    agent.work(pin!(events)).await;
}

impl Agent {
    async fn work(&mut self, mut events: impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin) {
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let next = self
                .due
                .values()
                .min()
                .copied()
                .map_or(heartbeat, |due| due.min(heartbeat));
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(_)) => {}
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {}
            }
            if heartbeat <= Instant::now() {
                heartbeat = Instant::now() + HEARTBEAT;
                self.beat().await;
            }
            self.see_to_pods().await;
        }
    }

    async fn register(&mut self) {
        let name = format!("node-{}", self.node);
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        });
        while !request::is_answer(&request::post(&self.client, "/api/v1/nodes", &node).await) {
            tokio::time::sleep(PAUSE).await;
        }
        self.beat().await;
    }

    /// Says that the node lives: by its lease, and now and then in its status.
    async fn beat(&mut self) {
        let name = format!("node-{}", self.node);
        if self.heartbeats.is_multiple_of(HEARTBEATS_PER_STATUS) {
            self.write_status(&name).await;
        }
        self.heartbeats += 1;
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let time = format!("{:.6}", ambient::now());
        let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time });
        let renewal = request::patch(&self.client, &format!("{leases}/{name}"), &json!({ "spec": spec })).await;
        if matches!(&renewal, Err(kube::Error::Api(status)) if status.code == 404) {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name }, "spec": spec,
            });
            drop(request::post(&self.client, leases, &lease).await);
        }
    }

    async fn write_status(&self, name: &str) {
        let now = format!("{:.0}", ambient::now());
        let condition = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated",
            "lastHeartbeatTime": now, "lastTransitionTime": crate::world::DAWN,
        });
        let room = json!({ "cpu": "64", "memory": "64Gi", "pods": "110" });
        let status = json!({ "status": { "conditions": [condition], "capacity": room, "allocatable": room } });
        let path = format!("/api/v1/nodes/{name}/status");
        // Whatever comes of it: there is a next time.
        drop(request::patch(&self.client, &path, &status).await);
    }

    fn take(&mut self, event: Event<Pod>) {
        let uid_of = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(pod) => {
                self.listing.push(uid_of(&pod));
                self.know(pod);
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                self.pods.retain(|uid, _| listing.contains(uid));
                self.is_listed = true;
            }
            Event::Apply(pod) => self.know(pod),
            Event::Delete(pod) => drop(self.pods.remove(&uid_of(&pod))),
        }
    }

    fn know(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.due.insert(uid.clone(), Instant::now());
        self.pods.insert(uid, pod);
    }

    async fn see_to_pods(&mut self) {
        if !self.is_listed {
            return;
        }
        self.end_strays();
        let now = Instant::now();
        let due: Vec<String> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.due.remove(&uid);
            let Some(pod) = self.pods.get(&uid).cloned() else {
                continue;
            };
            if let Some(again) = self.see_to(&uid, &pod).await {
                self.due.insert(uid, again);
            }
        }
    }

    /// Containers whose pods are gone from the API: they, too, end within their grace.
    fn end_strays(&mut self) {
        let (now, at) = (Instant::now(), self.world.elapsed());
        let mut state = self.world.lock();
        let here = state.containers.iter().filter(|(_, live)| live.node == self.node);
        let strays: Vec<(String, Option<Instant>)> = here
            .filter(|(uid, _)| !self.pods.contains_key(*uid))
            .map(|(uid, live)| (uid.clone(), live.ends_at))
            .collect();
        for (uid, ends_at) in strays {
            let ends_at = ends_at.unwrap_or_else(|| now + self.chance.up_to(GRACE_MAX));
            if ends_at <= now {
                state.end(at, &uid);
            } else {
                if let Some(live) = state.containers.get_mut(&uid) {
                    live.ends_at = Some(ends_at);
                }
                self.due.insert(uid, ends_at);
            }
        }
    }

    /// Does what is to be done about a pod; when to look again.
    async fn see_to(&mut self, uid: &str, pod: &Pod) -> Option<Instant> {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        let live = self.world.lock().containers.get(uid).cloned();
        if pod.metadata.deletion_timestamp.is_some() {
            return self.finish(uid, pod, live).await;
        }
        if matches!(phase, "Failed" | "Succeeded") {
            return None;
        }
        match live {
            None => self.start(uid, pod).await,
            Some(live) => self.report(uid, pod, &live).await,
        }
    }

    /// A pod is to go: its container ends within its grace, then the API may forget it.
    async fn finish(&mut self, uid: &str, pod: &Pod, live: Option<Live>) -> Option<Instant> {
        if let Some(live) = live {
            let now = Instant::now();
            let grace = self.chance.up_to(GRACE_MAX);
            let ends_at = live.ends_at.unwrap_or(now + grace);
            let at = self.world.elapsed();
            let mut state = self.world.lock();
            if ends_at > now {
                if let Some(known) = state.containers.get_mut(uid) {
                    known.ends_at = Some(ends_at);
                }
                return Some(ends_at);
            }
            state.end(at, uid);
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let path = format!("{PODS}/{name}");
        let answer = request::delete(&self.client, &path, &request::final_deletion(uid)).await;
        match answer {
            Ok(_) => None,
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(_) => Some(Instant::now() + PAUSE),
        }
    }

    async fn start(&mut self, uid: &str, pod: &Pod) -> Option<Instant> {
        let now = Instant::now();
        let delay = self.chance.up_to(Duration::from_secs(3));
        let begins = *self.begins.entry(uid.to_owned()).or_insert(now + delay);
        if begins > now {
            return Some(begins);
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let conduct = conduct_of(pod);
        if conduct == Conduct::Failing {
            return self
                .say(uid, pod, json!({ "phase": "Failed", "reason": "Simulated" }))
                .await;
        }
        let at = self.world.elapsed();
        let mut state = self.world.lock();
        let is_taken = state
            .containers
            .values()
            .any(|live| live.node == self.node && live.name == name);
        if is_taken {
            return Some(now + PAUSE);
        }
        state.addresses_given += 1;
        let given = state.addresses_given;
        let ip = format!("10.244.{}.{}", given / 250, given % 250 + 1);
        let ready_at = match conduct {
            Conduct::Good => Some(now + self.chance.up_to(Duration::from_secs(2))),
            Conduct::Slow => Some(now + Duration::from_secs(20)),
            Conduct::Broken | Conduct::Failing => None,
        };
        let live = Live {
            name,
            node: self.node,
            ip,
            claims: claims_of(pod),
            ready_at,
            unready_until: None,
            ends_at: None,
        };
        state.begin(at, uid, live);
        Some(now)
    }

    /// Says how a live container is, if that is news; when it will be otherwise.
    async fn report(&mut self, uid: &str, pod: &Pod, live: &Live) -> Option<Instant> {
        let now = Instant::now();
        let is_ready = live.ready_at.is_some_and(|at| at <= now) && live.unready_until.is_none_or(|until| until <= now);
        let later = [live.ready_at, live.unready_until];
        let again = later.into_iter().flatten().filter(|at| *at > now).min();
        let shown = serde_json::to_value(&pod.status).unwrap_or_default();
        let shows = json!({ "metadata": {}, "status": shown });
        if crate::check::is_ready(&shows) == is_ready && shown["podIP"] == json!(live.ip) && shown["phase"] == "Running"
        {
            return again;
        }
        let ready = if is_ready { "True" } else { "False" };
        let time = format!("{:.0}", ambient::now());
        let status = json!({
            "phase": "Running", "podIP": live.ip, "podIPs": [{ "ip": live.ip }], "startTime": time,
            "conditions": [
                { "type": "PodScheduled", "status": "True", "lastTransitionTime": time },
                { "type": "Ready", "status": ready, "lastTransitionTime": time },
            ],
        });
        self.say(uid, pod, status).await.or(again)
    }

    async fn say(&self, uid: &str, pod: &Pod, status: Value) -> Option<Instant> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({ "metadata": { "uid": uid }, "status": status });
        let answer = request::patch(&self.client, &format!("{PODS}/{name}/status"), &patch).await;
        match answer {
            Ok(_) => None,
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(_) => Some(Instant::now() + PAUSE),
        }
    }
}

fn conduct_of(pod: &Pod) -> Conduct {
    let spec = pod.spec.as_ref();
    let image = spec.and_then(|spec| spec.containers.first()?.image.as_deref());
    Conduct::of(image.unwrap_or_default())
}

fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|claim| claim.claim_name.clone())
        .collect()
}
