//! The person at the keyboard: edits, scales, deletes and rolls back at bad moments, pulls plugs, and puts things right
//! in the end.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::request::{self, CLAIMS, PODS, SETS};
use crate::world::{NODES, Who, World};

/// The sets that there are.
pub(crate) const NAMES: [&str; 2] = ["web", "db"];

/// How long the faults last.
pub(crate) const TROUBLE: Duration = Duration::from_secs(90);

/// By then everybody knows of an edit, and nobody has the excuse of not having known it.
const LONG_KNOWN: Duration = Duration::from_secs(30);

/// One thing that happens to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    /// A change of a set's spec (a merge patch of it).
    Edit(&'static str, Value),
    /// A pod is deleted.
    DeletePod(String),
    /// A claim is deleted.
    DeleteClaim(String),
    /// A pod's labels are changed (a merge patch of its metadata).
    EditPod(String, Value),
    /// A pod's container stops being ready for a while.
    Disturb(String, Duration),
    /// A set is updated above a partition only; a while later its lowest pod is deleted, which has to come back as it
    /// was.
    HalfUpdate(&'static str, Value, Duration),
    /// A set is deleted this way and made again a while later.
    Replace(&'static str, &'static str, Duration),
    /// Somebody hears nothing from the API server for a while.
    CutOff(Who, Duration),
    /// A node loses its power for a while.
    PowerLoss(usize, Duration),
    /// A component is killed.
    Kill(Who),
}

/// A set as the user first makes it.
pub(crate) fn manifest(name: &str, chance: &mut Chance) -> Value {
    let policy = chance.one_of(&["OrderedReady", "OrderedReady", "Parallel"]);
    let keep = |chance: &mut Chance| chance.one_of(&["Retain", "Retain", "Delete"]);
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name },
        "spec": {
            "replicas": chance.below(5), "serviceName": name, "podManagementPolicy": policy,
            "minReadySeconds": chance.one_of(&[0, 0, 3]),
            "selector": { "matchLabels": { "app": name } },
            "persistentVolumeClaimRetentionPolicy": { "whenScaled": keep(chance), "whenDeleted": keep(chance) },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{ "name": "c", "image": "good-0" }],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "www" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } },
            }],
        },
    })
}

/// Some sets are updated only above a partition from the beginning: edits alone would rarely come to that. Some have no
/// claims, which would tie each of their pods to one node.
pub(crate) fn vary(manifest: &mut Value, chance: &mut Chance) {
    if chance.happens(0.3)
        && let Some(spec) = manifest["spec"].as_object_mut()
    {
        spec.remove("volumeClaimTemplates");
    }
    if chance.happens(0.3) {
        let partition = json!({ "partition": 1 + chance.below(3) });
        manifest["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": partition });
    }
}

/// What happens, and when, as the seed says.
pub(crate) fn deeds(chance: &mut Chance) -> Vec<(Duration, Deed)> {
    let count = 2 + chance.below(14);
    let mut deeds: Vec<_> = (0..count).map(|_| (chance.up_to(TROUBLE), deed(chance))).collect();
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

fn template(image: &str) -> Value {
    json!({ "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } })
}

fn deed(chance: &mut Chance) -> Deed {
    let set = chance.one_of(&NAMES);
    let pod = format!("{set}-{}", chance.below(5));
    let a_while = Duration::from_secs(1) + chance.up_to(Duration::from_secs(40));
    match chance.below(22) {
        0..=3 => Deed::Edit(set, json!({ "replicas": chance.below(6) })),
        4..=6 => Deed::Edit(
            set,
            template(chance.one_of(&["good-0", "good-1", "good-2", "slow-1", "broken-1", "failing-1"])),
        ),
        7 => Deed::Edit(set, strategy(chance)),
        8 => {
            let policy = |chance: &mut Chance| chance.one_of(&["Retain", "Delete"]);
            let policy = json!({ "whenScaled": policy(chance), "whenDeleted": policy(chance) });
            Deed::Edit(set, json!({ "persistentVolumeClaimRetentionPolicy": policy }))
        }
        9 => Deed::Edit(set, json!({ "ordinals": { "start": chance.below(3) } })),
        10 | 11 => Deed::DeletePod(pod),
        12 => Deed::DeleteClaim(format!("www-{pod}")),
        13 => Deed::EditPod(pod, pod_change(chance)),
        14 => Deed::Disturb(pod, a_while),
        15 => Deed::Replace(set, chance.one_of(&["Background", "Foreground", "Orphan"]), a_while),
        16 => Deed::CutOff(anybody(chance), a_while),
        17 => Deed::PowerLoss(node(chance), a_while),
        18 => Deed::Kill(anybody(chance)),
        19 | 20 => Deed::HalfUpdate(set, half_update(chance), LONG_KNOWN + a_while),
        _ => Deed::Edit(set, json!({ "minReadySeconds": chance.below(6) })),
    }
}

fn half_update(chance: &mut Chance) -> Value {
    let mut spec = template(chance.one_of(&["good-1", "good-2", "good-3"]));
    let partition = json!({ "partition": 1 + chance.below(3) });
    spec["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": partition });
    spec
}

fn strategy(chance: &mut Chance) -> Value {
    let strategy = match chance.below(4) {
        0 => json!({ "type": "OnDelete", "rollingUpdate": null }),
        1 => json!({ "type": "RollingUpdate", "rollingUpdate": null }),
        2 => json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": chance.below(4) } }),
        _ => json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 + chance.below(3) } }),
    };
    json!({ "updateStrategy": strategy })
}

fn pod_change(chance: &mut Chance) -> Value {
    match chance.below(4) {
        0 => json!({ "ownerReferences": [] }),
        1 => json!({ "labels": { "app": "stranger" } }),
        2 => json!({ "labels": { "statefulset.kubernetes.io/pod-name": null } }),
        _ => json!({ "labels": { "controller-revision-hash": null } }),
    }
}

fn node(chance: &mut Chance) -> usize {
    usize::try_from(chance.below(3)).unwrap_or_default() % NODES
}

fn anybody(chance: &mut Chance) -> Who {
    match chance.below(5) {
        0 | 1 => Who::Controllers,
        2 => Who::Scheduler,
        _ => Who::Node(node(chance)),
    }
}

/// Makes the Services and the sets.
pub(crate) async fn begin(client: &Client, manifests: &[Value]) {
    for manifest in manifests {
        let name = &manifest["metadata"]["name"];
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "clusterIP": "None", "selector": { "app": name }, "ports": [{ "port": 80 }] },
        });
        drop(request::post(client, "/api/v1/namespaces/default/services", &service).await);
        drop(request::post(client, SETS, manifest).await);
    }
}

/// Does everything in its time.
pub(crate) async fn trouble(world: &World, client: &Client, manifests: &[Value], deeds: &[(Duration, Deed)]) {
    let began = Instant::now();
    let mut later = tokio::task::JoinSet::new();
    for (at, deed) in deeds {
        tokio::time::sleep_until(began + *at).await;
        world.tell(|| format!("the user: {deed:?}"));
        let (world, client, manifests, deed) = (world.clone(), client.clone(), manifests.to_vec(), deed.clone());
        later.spawn(async move { act(&world, &client, &manifests, deed).await });
    }
    tokio::time::sleep_until(began + TROUBLE).await;
    while later.join_next().await.is_some() {}
}

/// What the API answers is the user's own affair: a pod may be gone, an edit may be refused.
async fn act(world: &World, client: &Client, manifests: &[Value], deed: Deed) {
    match deed {
        Deed::Edit(set, spec) => {
            drop(request::patch(client, &format!("{SETS}/{set}"), &json!({ "spec": spec })).await);
        }
        Deed::DeletePod(pod) => drop(request::delete(client, &format!("{PODS}/{pod}"), &Value::Null).await),
        Deed::DeleteClaim(claim) => {
            let path = format!("{CLAIMS}/{claim}");
            let note = json!({ "metadata": { "annotations": { "sim/condemned": "by the user" } } });
            drop(request::patch(client, &path, &note).await);
            drop(request::delete(client, &path, &Value::Null).await);
        }
        Deed::EditPod(pod, change) => {
            drop(request::patch(client, &format!("{PODS}/{pod}"), &json!({ "metadata": change })).await);
        }
        Deed::HalfUpdate(set, spec, a_while) => {
            drop(request::patch(client, &format!("{SETS}/{set}"), &json!({ "spec": spec })).await);
            tokio::time::sleep(a_while).await;
            drop(request::delete(client, &format!("{PODS}/{set}-0"), &Value::Null).await);
        }
        Deed::Disturb(pod, a_while) => disturb(world, &pod, a_while),
        Deed::Replace(set, propagation, a_while) => {
            let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation });
            drop(request::delete(client, &format!("{SETS}/{set}"), &options).await);
            tokio::time::sleep(a_while).await;
            for manifest in manifests.iter().filter(|manifest| manifest["metadata"]["name"] == set) {
                drop(request::post(client, SETS, manifest).await);
            }
        }
        Deed::CutOff(who, a_while) => {
            world.lock().cut_off.insert(who);
            tokio::time::sleep(a_while).await;
            world.lock().cut_off.remove(&who);
        }
        Deed::PowerLoss(node, a_while) => {
            world.lock().powerless.insert(node);
            world.crash(Who::Node(node));
            let at = world.elapsed();
            let lost: Vec<String> = {
                let state = world.lock();
                let here = state.containers.iter().filter(|(_, live)| live.node == node);
                here.map(|(uid, _)| uid.clone()).collect()
            };
            for uid in lost {
                world.lock().end(at, &uid);
            }
            tokio::time::sleep(a_while).await;
            world.lock().powerless.remove(&node);
        }
        Deed::Kill(who) => world.crash(who),
    }
}

fn disturb(world: &World, pod: &str, a_while: Duration) {
    let until = Instant::now() + a_while;
    for live in world.lock().containers.values_mut().filter(|live| live.name == pod) {
        live.unready_until = Some(until);
    }
}

/// The faults have stopped: the user makes every set sound and removes what can never become well by itself.
pub(crate) async fn heal(world: &World, client: &Client, manifests: &[Value]) {
    for manifest in manifests {
        drop(request::post(client, SETS, manifest).await);
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let mut spec = template("good-9");
        spec["updateStrategy"] =
            json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0, "maxUnavailable": null } });
        drop(request::patch(client, &format!("{SETS}/{name}"), &json!({ "spec": spec })).await);
    }
    world.look();
    let pods: Vec<(String, Value)> = {
        let state = world.lock();
        let pods = state.checkers.objects.iter().filter(|((kind, _), _)| kind == "pods");
        pods.map(|((_, name), pod)| (name.clone(), pod.clone())).collect()
    };
    for (name, pod) in pods {
        let image = crate::check::image_of(&pod);
        let is_hopeless = image.starts_with("broken") || image.starts_with("failing");
        let is_nobody_s = pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
        if is_hopeless || is_nobody_s {
            drop(request::delete(client, &format!("{PODS}/{name}"), &Value::Null).await);
        }
    }
}
