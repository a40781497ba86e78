//! Whatever happens, whenever the controller crashes: the order is kept, nothing is lost, and all becomes quiet.

use std::collections::BTreeSet;

use controllers_plan::{Action, Write};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{BROKEN, World, world};

/// Something that happens to the world.
#[derive(Clone, Debug)]
enum Happening {
    /// The controller plans, and crashes after so many writes.
    Plan {
        writes: usize,
    },
    /// Kubelet or a collector does one thing.
    Live {
        choice: usize,
    },
    Scale {
        replicas: i64,
    },
    Image {
        image: &'static str,
    },
    Partition {
        partition: i64,
    },
    Start {
        start: i64,
    },
    Policy {
        scaled: &'static str,
        deleted: &'static str,
    },
    DeletePod {
        choice: usize,
    },
    FailPod {
        choice: usize,
    },
    UnreadyPod {
        choice: usize,
    },
    LosePod {
        choice: usize,
    },
    OrphanPod {
        choice: usize,
    },
    Time {
        seconds: i64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let retention = || prop_oneof![Just("Retain"), Just("Delete")];
    prop_oneof![
        12 => (0_usize..6).prop_map(|writes| Happening::Plan { writes }),
        12 => (0_usize..10).prop_map(|choice| Happening::Live { choice }),
        2 => (0_i64..5).prop_map(|replicas| Happening::Scale { replicas }),
        2 => prop_oneof![Just("one"), Just("two"), Just(BROKEN)].prop_map(|image| Happening::Image { image }),
        1 => (0_i64..4).prop_map(|partition| Happening::Partition { partition }),
        1 => (0_i64..3).prop_map(|start| Happening::Start { start }),
        1 => (retention(), retention()).prop_map(|(scaled, deleted)| Happening::Policy { scaled, deleted }),
        1 => (0_usize..5).prop_map(|choice| Happening::DeletePod { choice }),
        1 => (0_usize..5).prop_map(|choice| Happening::FailPod { choice }),
        1 => (0_usize..5).prop_map(|choice| Happening::UnreadyPod { choice }),
        1 => (0_usize..5).prop_map(|choice| Happening::LosePod { choice }),
        1 => (0_usize..5).prop_map(|choice| Happening::OrphanPod { choice }),
        1 => (0_i64..5).prop_map(|seconds| Happening::Time { seconds }),
    ]
}

fn chosen(world: &World, choice: usize) -> Option<String> {
    let pods = world.names("Pod");
    (!pods.is_empty()).then(|| pods[choice % pods.len()].to_owned())
}

fn happen(world: &mut World, happening: &Happening) {
    match happening {
        Happening::Plan { writes } => act(world, *writes),
        Happening::Live { choice } => {
            world.live(*choice);
        }
        Happening::Scale { replicas } => world.edit_set(json!({ "replicas": replicas })),
        Happening::Image { image } => world.set_image(image),
        Happening::Partition { partition } => {
            world.edit_set(json!({ "updateStrategy": { "rollingUpdate": { "partition": partition } } }));
        }
        Happening::Start { start } => world.edit_set(json!({ "ordinals": { "start": start } })),
        Happening::Policy { scaled, deleted } => {
            let policy = json!({ "whenScaled": scaled, "whenDeleted": deleted });
            world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": policy }));
        }
        Happening::Time { seconds } => world.pass(*seconds),
        Happening::DeletePod { choice } => hit(world, *choice, |world, pod| world.delete("Pod", pod)),
        Happening::FailPod { choice } => hit(world, *choice, |world, pod| world.phase(pod, "Failed", false)),
        Happening::UnreadyPod { choice } => hit(world, *choice, |world, pod| world.unready(pod)),
        Happening::LosePod { choice } => {
            hit(world, *choice, |world, pod| {
                drop(world.objects.remove(&("Pod".to_owned(), pod.to_owned())))
            });
        }
        Happening::OrphanPod { choice } => hit(world, *choice, |world, pod| {
            world.edit("Pod", pod, &json!({ "metadata": { "ownerReferences": [] } }));
        }),
    }
}

fn hit(world: &mut World, choice: usize, what: impl FnOnce(&mut World, &str)) {
    if let Some(pod) = chosen(world, choice) {
        what(world, &pod);
    }
}

/// Plans and does the first writes of the plan, checking the order before each.
fn act(world: &mut World, writes: usize) {
    let plan = world.plan();
    for action in plan.actions().chain(&plan.status).take(writes) {
        check_order(world, action);
        world.apply(action).expect("nothing else has changed");
    }
}

fn is_ready(world: &World, pod: &str) -> bool {
    let pod = world.get("Pod", pod);
    pod.is_some_and(|pod| {
        pod["status"]["phase"] == "Running"
            && pod["status"]["conditions"][0]["status"] == "True"
            && pod["metadata"]["deletionTimestamp"].is_null()
    })
}

/// What must hold before each write (invariants 3 and 4 of the design).
fn check_order(world: &World, action: &Action) {
    let spec = &world.set()["spec"];
    let start = spec["ordinals"]["start"].as_i64().unwrap_or(0);
    let replicas = spec["replicas"].as_i64().unwrap();
    let is_ordered = spec["podManagementPolicy"] == "OrderedReady";
    let key = action.key();
    let ordinal = || key.name.rsplit_once('-').unwrap().1.parse::<i64>().unwrap();
    match (&action.write, key.kind.kind) {
        (Write::Delete { .. }, "PersistentVolumeClaim") => panic!("a claim is deleted: {}", key.name),
        (Write::Create(_), "Pod") => {
            assert!(
                (start..start + replicas).contains(&ordinal()),
                "{} is not wanted",
                key.name
            );
            let lower = (start..ordinal()).map(|ordinal| format!("web-{ordinal}"));
            let mut unready = lower.filter(|lower| is_ordered && !is_ready(world, lower));
            assert_eq!(unready.next(), None, "{} is created too early", key.name);
        }
        (Write::Delete { .. }, "Pod") if is_ordered => {
            let is_condemned = !(start..start + replicas).contains(&ordinal());
            let has_ended = matches!(
                world.pod(&key.name)["status"]["phase"].as_str(),
                Some("Failed" | "Succeeded")
            );
            if is_condemned {
                let own = world.set()["metadata"]["uid"].clone();
                let higher = world.names("Pod").into_iter().filter(|name| {
                    if world.pod(name)["metadata"]["ownerReferences"][0]["uid"] != own {
                        return false;
                    }
                    let other = name.rsplit_once('-').unwrap().1.parse::<i64>().unwrap();
                    other > ordinal() && !(start..start + replicas).contains(&other)
                });
                assert_eq!(higher.count(), 0, "{} is deleted before a higher one", key.name);
            } else if !has_ended {
                let mut wanted = (start..start + replicas).map(|ordinal| format!("web-{ordinal}"));
                assert!(
                    wanted.all(|pod| is_ready(world, &pod)),
                    "{} is updated while others are down",
                    key.name
                );
            }
        }
        _ => {}
    }
}

/// Faults have stopped: the world becomes what the set says.
fn check_end(world: &mut World) {
    world.set_image("final");
    for pod in world.names("Pod").into_iter().map(str::to_owned).collect::<Vec<_>>() {
        // What never becomes ready keeps an ordered set waiting (A7.4, A7.6); people have to delete it.
        let is_broken = world.pod(&pod)["spec"]["containers"][0]["image"] == BROKEN;
        if is_broken || world.pod(&pod)["status"]["phase"] == "Failed" {
            world.delete("Pod", &pod);
        }
    }
    // A partition makes new pods at the current revision, which may be a broken one.
    world.edit_set(json!({ "updateStrategy": { "rollingUpdate": { "partition": 0 } } }));
    world.pass(10);
    world.run();
    let spec = &world.set()["spec"];
    let (start, replicas) = (
        spec["ordinals"]["start"].as_i64().unwrap_or(0),
        spec["replicas"].as_i64().unwrap(),
    );
    let wanted: BTreeSet<_> = (start..start + replicas)
        .map(|ordinal| format!("web-{ordinal}"))
        .collect();
    let pods: BTreeSet<_> = world.names("Pod").into_iter().map(str::to_owned).collect();
    assert_eq!(pods, wanted, "{:?}", world.because());
    for pod in &wanted {
        assert!(is_ready(world, pod));
        assert_eq!(world.pod(pod)["spec"]["containers"][0]["image"], "final");
        let claim = format!("www-{pod}");
        assert!(world.get("PersistentVolumeClaim", &claim).is_some(), "{claim} is there");
    }
    assert_eq!(
        world.set()["status"]["currentRevision"],
        world.set()["status"]["updateRevision"]
    );
    let plan = world.plan();
    assert!(
        plan.is_quiet() && plan.because.is_empty(),
        "still something to do: {plan:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ordered_sets_keep_their_order_and_converge(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut world = world(json!({}));
        for happening in &happenings {
            happen(&mut world, happening);
        }
        check_end(&mut world);
    }

    #[test]
    fn parallel_sets_converge(happenings in prop::collection::vec(happening(), 0..80), gate in any::<bool>()) {
        let mut world = world(json!({ "podManagementPolicy": "Parallel" }));
        world.gates.max_unavailable = gate;
        for happening in &happenings {
            happen(&mut world, happening);
        }
        check_end(&mut world);
    }
}
