//! What a node does for a pod, step by step, in a world that does as it is told.

#[path = "support/world.rs"]
mod world;

use api::k8s::api::core::v1::{EphemeralContainer, PodReadinessGate, PodSpec, Probe};
use node_plan::{ContainerState, Failure, Job, KillReason, StartFailure, Step, Verdicts, Volumes};
use proptest::prelude::*;
use world::{World, container, holds, pod, states};

fn simple(policy: &str) -> World {
    World::new(pod(PodSpec {
        containers: vec![container("main")],
        restart_policy: Some(policy.into()),
        ..PodSpec::default()
    }))
}

fn with_init(policy: &str) -> World {
    let mut sidecar = container("side");
    sidecar.restart_policy = Some("Always".into());
    World::new(pod(PodSpec {
        init_containers: Some(vec![container("init"), sidecar]),
        containers: vec![container("main")],
        restart_policy: Some(policy.into()),
        ..PodSpec::default()
    }))
}

#[test]
fn a_pod_comes_up_in_order() {
    let mut w = simple("Always");
    let first = w.plan();
    assert_eq!(first.steps, [Step::PrepareVolumes]);
    assert_eq!(first.status.phase.as_deref(), Some("Pending"));
    assert_eq!(states(&first.status), ["main=waiting/ContainerCreating"]);
    w.settle();
    let status = w.status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    for type_ in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert!(holds(&status, type_), "{type_}");
    }
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.1"));
    assert_eq!(
        (status.observed_generation, status.qos_class.as_deref()),
        (Some(1), Some("BestEffort"))
    );
    assert!(w.history[0].starts_with("PrepareVolumes") && w.history[1].starts_with("CreateSandbox"));
}

#[test]
fn a_container_of_a_changed_image_is_replaced_in_the_status_at_once() {
    for policy in ["Always", "Never"] {
        let mut w = simple(policy);
        w.settle();
        w.pod.spec.as_mut().unwrap().containers[0].image = Some("image:2".into());
        let mut seen = Vec::new();
        for _ in 0..4 {
            let plan = w.step();
            seen.push(format!("{:?} {}", states(&plan.status), holds(&plan.status, "Ready")));
        }
        assert!(
            seen.iter().all(|s| s == r#"["main=running"] true"#),
            "{policy}: {seen:?}"
        );
        let newest = w.containers.iter().max_by_key(|c| c.restart_count).unwrap();
        assert_eq!(
            (newest.restart_count, newest.state),
            (1, ContainerState::Running),
            "{policy}"
        );
    }
}

#[test]
fn a_replacement_that_does_not_come_is_told_of_after_a_second() {
    let mut w = simple("Always");
    w.settle();
    w.pod.spec.as_mut().unwrap().containers[0].image = Some("image:2".into());
    let kill = w.step();
    assert!(matches!(kill.steps[..], [Step::Kill { .. }]), "{kill:?}");
    // The next start is under way, e.g. pulls the image.
    w.busy.insert("main".into(), Job::Start { cancelled: false });
    let at_once = w.plan();
    assert_eq!(states(&at_once.status), ["main=running"]);
    w.pass(1);
    let late = w.plan();
    assert_ne!(states(&late.status), ["main=running"]);
    assert!(!holds(&late.status, "Ready"));
}

#[test]
fn init_containers_and_sidecars_come_first() {
    let mut w = with_init("Always");
    let plan = w.settle();
    assert_eq!(
        states(&plan.status),
        [
            "init=running",
            "side=waiting/PodInitializing",
            "main=waiting/PodInitializing"
        ]
    );
    assert!(!holds(&plan.status, "Initialized"));
    w.exit_named("init", 0);
    let plan = w.settle();
    assert_eq!(
        states(&plan.status),
        ["init=terminated/Completed", "side=running", "main=running"]
    );
    assert!(holds(&plan.status, "Initialized") && holds(&plan.status, "Ready"));
}

#[test]
fn ephemeral_containers_start_once_and_wait_for_nothing() {
    let mut w = with_init("Always");
    while w.running("init").is_none() {
        w.step();
    }
    let debug = EphemeralContainer {
        name: "debug".into(),
        image: Some("tools:1".into()),
        ..EphemeralContainer::default()
    };
    let spec = w.pod.spec.as_mut().expect("a spec");
    spec.ephemeral_containers = Some(vec![debug]);
    w.settle();
    assert!(w.running("debug").is_some() && w.running("init").is_some());
    let status = w.status();
    let of_debug = &status.ephemeral_container_statuses.as_ref().expect("a status")[0];
    assert_eq!((of_debug.ready, of_debug.started), (false, None));
    w.exit_named("debug", 1);
    w.exit_named("init", 0);
    w.settle();
    w.pass(600);
    w.settle();
    assert!(w.running("main").is_some() && w.running("debug").is_none());
    assert_eq!(
        states(&w.status()),
        [
            "init=terminated/Completed",
            "side=running",
            "main=running",
            "debug=terminated/Error"
        ]
    );
    let starts = |w: &World| w.history.iter().filter(|h| h.contains("name: \"debug\"")).count();
    assert_eq!(starts(&w), 1);
    // Neither a lost record nor another sandbox starts it again.
    w.containers.retain(|c| c.name != "debug");
    let sandbox = w.sandboxes[0].id.clone();
    w.sandbox_dies(&sandbox);
    w.settle();
    w.pass(600);
    w.settle();
    w.exit_named("init", 0);
    w.settle();
    assert!(w.running("main").is_some());
    assert_eq!(starts(&w), 1);
    assert_eq!(w.status().phase.as_deref(), Some("Running"));
}

#[test]
fn a_failed_init_container_is_tried_again_or_fails_the_pod() {
    let mut w = with_init("Always");
    w.settle();
    w.exit_named("init", 1);
    w.settle();
    assert!(w.running("init").is_some(), "the first failure is retried at once");
    w.exit_named("init", 1);
    let plan = w.settle();
    assert_eq!(states(&plan.status)[0], "init=waiting/CrashLoopBackOff");
    assert_eq!(plan.status.phase.as_deref(), Some("Pending"));
    let mut w = with_init("Never");
    w.settle();
    w.exit_named("init", 1);
    let plan = w.settle();
    assert_eq!(plan.status.phase.as_deref(), Some("Failed"));
    assert_eq!(states(&plan.status)[0], "init=terminated/Error");
}

#[test]
fn crashes_are_held_back_longer_and_longer() {
    let mut w = simple("Always");
    w.settle();
    w.exit_named("main", 1);
    w.settle();
    assert!(w.running("main").is_some());
    for seconds in [10, 20, 40] {
        w.exit_named("main", 1);
        let plan = w.settle();
        assert_eq!(states(&plan.status), ["main=waiting/CrashLoopBackOff"]);
        let main = &plan.status.container_statuses.as_ref().unwrap()[0];
        let message = main
            .state
            .as_ref()
            .unwrap()
            .waiting
            .as_ref()
            .unwrap()
            .message
            .clone()
            .unwrap();
        let expected = format!("back-off {seconds}s restarting failed container=main pod=web-0_default(u1)");
        assert_eq!(message, expected);
        assert_eq!(
            main.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code,
            1
        );
        w.pass(seconds - 1);
        assert!(w.settle().again_at.is_some() && w.running("main").is_none());
        w.pass(1);
        w.settle();
        assert!(w.running("main").is_some(), "after {seconds} s");
    }
    assert_eq!(w.status().container_statuses.unwrap()[0].restart_count, 4);
}

#[test]
fn a_restart_counts_when_the_container_runs() {
    let mut w = simple("Always");
    w.settle();
    w.exit_named("main", 1);
    w.settle();
    w.busy.insert("main".into(), Job::Start { cancelled: false });
    let coming = w.plan().status.container_statuses.unwrap().remove(0);
    assert!(coming.state.unwrap().waiting.is_some());
    assert_eq!(coming.restart_count, 0);
    w.busy.clear();
    let started = w.plan().status.container_statuses.unwrap().remove(0);
    assert!(started.state.unwrap().running.is_some());
    assert_eq!(started.restart_count, 1);
}

#[test]
fn a_new_image_has_no_crashes_to_pay_for() {
    let mut w = simple("Always");
    w.settle();
    for _ in 0..2 {
        w.exit_named("main", 1);
        w.settle();
    }
    assert_eq!(states(&w.status()), ["main=waiting/CrashLoopBackOff"]);
    w.pod.spec.as_mut().unwrap().containers[0].image = Some("image:2".into());
    w.settle();
    assert!(w.running("main").is_some(), "started at once");
    w.exit_named("main", 1);
    w.settle();
    assert!(w.running("main").is_some(), "its first crash costs nothing");
    w.exit_named("main", 1);
    let plan = w.settle();
    let waits = plan.status.container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap()
        .waiting
        .unwrap();
    assert!(waits.message.unwrap().starts_with("back-off 10s "));
}

#[test]
fn a_restarted_agent_changes_nothing() {
    let mut w = simple("Always");
    w.settle();
    w.exit_named("main", 1);
    w.settle();
    let (before, running) = (w.status(), w.running("main"));
    w.forget();
    // Volumes are looked at again; nothing else happens.
    let steps = w.settle();
    assert!(steps.steps.is_empty());
    assert_eq!(w.running("main"), running);
    assert_eq!(w.status(), before);
}

#[test]
fn what_was_made_but_not_started_is_no_restart() {
    let mut w = simple("Always");
    w.settle();
    w.containers[0].state = ContainerState::Created;
    let plan = w.plan();
    assert!(
        matches!(
            &plan.steps[..],
            [Step::Start {
                restart_count: 0,
                backoff_s: 0,
                ..
            }]
        ),
        "{:?}",
        plan.steps
    );
}

#[test]
fn ended_pods() {
    let check = |policy: &str, code: i32, phase: &str| {
        let mut w = simple(policy);
        w.settle();
        w.exit_named("main", code);
        let plan = w.settle();
        assert_eq!(plan.status.phase.as_deref(), Some(phase), "{policy} {code}");
        if phase != "Running" {
            assert_eq!(w.volumes, Volumes::Unmounted);
            assert_eq!(w.containers.len(), 1, "the record stays for its log");
            assert!(!holds(&plan.status, "Ready"));
            w.forget();
            assert_eq!(w.settle().status.phase.as_deref(), Some(phase));
            w.delete(30);
            assert!(w.settle().done);
        }
    };
    check("Never", 0, "Succeeded");
    check("Never", 1, "Failed");
    check("OnFailure", 0, "Succeeded");
    check("OnFailure", 1, "Running");
    check("Always", 0, "Running");
}

#[test]
fn sidecars_do_not_keep_an_ended_pod() {
    let mut w = with_init("Never");
    w.settle();
    w.exit_named("init", 0);
    w.settle();
    w.exit_named("main", 0);
    let plan = w.settle();
    assert_eq!(plan.status.phase.as_deref(), Some("Succeeded"));
    assert!(w.running("side").is_none());
}

#[test]
fn deletion_stops_containers_then_sidecars_then_tells_the_api() {
    let mut w = with_init("Always");
    w.settle();
    w.exit_named("init", 0);
    w.settle();
    w.delete(30);
    w.history.clear();
    assert!(w.settle().done);
    let order: Vec<&str> = w.history.iter().filter_map(|s| s.split([' ', '{']).next()).collect();
    let mut distinct = order.clone();
    distinct.dedup();
    assert_eq!(
        distinct,
        [
            "Kill",
            "RemoveContainer",
            "StopSandbox",
            "UnmountVolumes",
            "RemoveSandbox",
            "DeletePod"
        ],
        "{order:?}"
    );
    assert!(w.history[0].contains("name: \"main\"") && w.history[1].contains("name: \"side\""));
    let status = w.status();
    assert_eq!(status.phase.as_deref(), Some("Failed"), "main ended with 143");
    assert_eq!(
        states(&status),
        [
            "init=terminated/Completed",
            "side=terminated/Error",
            "main=terminated/Error"
        ]
    );
}

#[test]
fn a_shorter_grace_replaces_a_longer_one() {
    let mut w = simple("Always");
    w.settle();
    w.delete(30);
    let grace = |steps: &[Step]| match steps {
        [Step::Kill { grace_s, .. }] => Some(*grace_s),
        _ => None,
    };
    let plan = w.plan();
    assert_eq!(grace(&plan.steps), Some(30));
    let deadline = w.now.checked_add(jiff::SignedDuration::from_secs(30)).unwrap();
    w.busy.insert("main".into(), Job::Kill { deadline });
    assert_eq!(w.plan().steps, []);
    w.pass(3);
    w.delete(5);
    assert_eq!(grace(&w.plan().steps), Some(5));
}

#[test]
fn deletion_during_a_pull_gives_the_pull_up() {
    let mut w = simple("Always");
    w.step();
    w.step();
    w.busy.insert("main".into(), Job::Start { cancelled: false });
    w.delete(30);
    assert_eq!(w.plan().steps, [Step::CancelStart { name: "main".into() }]);
    w.busy.insert("main".into(), Job::Start { cancelled: true });
    assert_eq!(w.plan().steps, []);
    w.busy.clear();
    assert!(w.settle().done);
    assert_eq!(
        w.status().phase.as_deref(),
        Some("Failed"),
        "what never ran has not succeeded"
    );
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let mut w = simple("Always");
    w.settle();
    let id = w.sandboxes[0].id.clone();
    w.sandbox_dies(&id);
    w.settle();
    let live: Vec<u32> = w.sandboxes.iter().filter(|s| s.ready).map(|s| s.attempt).collect();
    assert_eq!(live, [1]);
    let main = w.status().container_statuses.unwrap()[0].clone();
    assert_eq!((main.restart_count, main.ready), (1, true));
    assert_eq!(main.last_state.unwrap().terminated.unwrap().exit_code, 137);
    assert_eq!(
        w.status().pod_ip.as_deref(),
        w.sandboxes.last().map(|s| s.ips[0].as_str())
    );
}

#[test]
fn a_dead_sandbox_of_a_pod_that_never_restarts_is_its_end() {
    let mut w = simple("Never");
    w.settle();
    let id = w.sandboxes[0].id.clone();
    w.sandbox_dies(&id);
    assert_eq!(w.settle().status.phase.as_deref(), Some("Failed"));
}

#[test]
fn condemned_and_outdated_containers_are_replaced() {
    let mut w = simple("Always");
    w.settle();
    let id = w.running("main").unwrap();
    let message = "Container main failed liveness probe, will be restarted".to_owned();
    w.memory.condemned.insert(
        id.clone(),
        KillReason {
            message,
            grace_s: Some(1),
        },
    );
    assert!(matches!(&w.plan().steps[..], [Step::Kill { grace_s: 1, .. }]));
    w.settle();
    assert_ne!(w.running("main").unwrap(), id);
    w.pod.spec.as_mut().unwrap().containers[0].image = Some("image:2".into());
    let plan = w.plan();
    assert!(matches!(&plan.steps[..], [Step::Kill { why, .. }] if why.contains("definition changed")));
}

#[test]
fn probes_and_gates_decide_readiness() {
    let mut w = simple("Always");
    let spec = w.pod.spec.as_mut().unwrap();
    spec.containers[0].readiness_probe = Some(Probe::default());
    spec.containers[0].startup_probe = Some(Probe::default());
    spec.readiness_gates = Some(vec![PodReadinessGate {
        condition_type: "example.org/up".into(),
    }]);
    w.settle();
    let id = w.running("main").unwrap();
    let ready = |w: &mut World, started: bool, ready: bool| {
        w.memory.verdicts.insert(id.clone(), Verdicts { started, ready });
        let status = w.settle().status;
        (holds(&status, "ContainersReady"), holds(&status, "Ready"))
    };
    assert_eq!(ready(&mut w, false, true), (false, false));
    assert_eq!(ready(&mut w, true, false), (false, false));
    assert_eq!(ready(&mut w, true, true), (true, false));
    let ready = w
        .status()
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert!(ready.message.unwrap().contains("\"example.org/up\" does not exist"));
}

#[test]
fn failed_starts_show_their_reason_and_wait() {
    let mut w = simple("Always");
    w.step();
    w.step();
    let failed = StartFailure {
        reason: "ErrImagePull".into(),
        held_reason: "ImagePullBackOff".into(),
        held_message: "Back-off pulling image \"image:1\": ErrImagePull: no".into(),
        failure: Failure {
            message: "no".into(),
            retry_at: w.now.checked_add(jiff::SignedDuration::from_secs(10)).unwrap(),
            times: 1,
        },
        at: w.now,
    };
    w.memory.failures.insert("main".into(), failed);
    let plan = w.plan();
    assert_eq!(
        (states(&plan.status), plan.steps.len()),
        (vec!["main=waiting/ErrImagePull".to_owned()], 0)
    );
    w.pass(5);
    let plan = w.plan();
    assert_eq!(
        (states(&plan.status), plan.steps.len()),
        (vec!["main=waiting/ImagePullBackOff".to_owned()], 0)
    );
    w.pass(5);
    assert!(matches!(&w.plan().steps[..], [Step::Start { .. }]));
}

#[test]
fn refused_and_late_pods_fail() {
    let mut w = simple("Always");
    w.memory.refused = Some(("SysctlForbidden", "forbidden sysctl".into()));
    let status = w.settle().status;
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("SysctlForbidden"))
    );
    let mut w = simple("Always");
    w.pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    assert!(w.settle().again_at.is_some());
    w.pass(60);
    let status = w.settle().status;
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
    assert!(w.running("main").is_none());
}

#[test]
fn volumes_that_wait_hold_everything_and_say_why() {
    let mut w = simple("Always");
    let retry_at = w.now.checked_add(jiff::SignedDuration::from_secs(2)).unwrap();
    w.volumes = Volumes::Failed(Failure {
        message: "PVC is not bound".into(),
        retry_at,
        times: 1,
    });
    let plan = w.plan();
    assert!(plan.steps.is_empty() && plan.again_at == Some(retry_at));
    assert!(plan.because.iter().any(|r| r.text.contains("PVC is not bound")));
    w.delete(30);
    w.volumes = Volumes::Unknown;
    assert!(w.settle().done);
}

#[test]
fn a_pod_that_is_gone_from_the_api_leaves_nothing() {
    let mut w = simple("Always");
    w.settle();
    w.removed = true;
    assert!(w.settle().done);
    assert!(w.containers.is_empty() && w.sandboxes.is_empty() && w.volumes == Volumes::Unmounted);
}

#[derive(Clone, Debug)]
enum Happening {
    Exit(usize, i32),
    SandboxDies,
    Pass(i64),
    Forget,
    Step,
    Delete(i64),
    Remove,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0usize..3, prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(i, code)| Happening::Exit(i, code)),
        1 => Just(Happening::SandboxDies),
        3 => (1i64..700).prop_map(Happening::Pass),
        1 => Just(Happening::Forget),
        6 => Just(Happening::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever happens: one live container of a name, in a live sandbox, in order (checked by the world at every
    /// step); and once nothing more happens the plan is quiet, and a deleted pod is gone.
    #[test]
    fn any_life_ends_well(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        life in proptest::collection::vec(happening(), 0..40),
        end in prop_oneof![(0i64..60).prop_map(Happening::Delete), Just(Happening::Remove)],
    ) {
        let mut w = with_init(policy);
        for happening in life.into_iter().chain([end]) {
            match happening {
                Happening::Exit(i, code) => w.exit_named(["init", "side", "main"][i], code),
                Happening::SandboxDies => {
                    if let Some(id) = w.sandboxes.last().map(|s| s.id.clone()) {
                        w.sandbox_dies(&id);
                    }
                }
                Happening::Pass(seconds) => w.pass(seconds),
                Happening::Forget => w.forget(),
                Happening::Step => { w.step(); }
                Happening::Delete(grace) => w.delete(grace),
                Happening::Remove => w.removed = true,
            }
            let phase_before = w.status().phase;
            let plan = w.plan();
            prop_assert!(plan.steps.is_empty() || !plan.because.is_empty(), "a step without a reason: {:?}", plan.steps);
            if matches!(phase_before.as_deref(), Some("Succeeded" | "Failed")) {
                prop_assert_eq!(plan.status.phase, phase_before, "a pod does not come back from its end");
            }
        }
        for _ in 0..5 {
            w.pass(400);
            w.settle();
        }
        prop_assert!(w.plan().done, "{:#?}", w.plan());
    }

    /// A fair world: after any trouble a pod that always restarts is running and ready again.
    #[test]
    fn a_pod_that_always_restarts_recovers(life in proptest::collection::vec(happening(), 0..40)) {
        let mut w = simple("Always");
        for happening in life {
            match happening {
                Happening::Exit(_, code) => w.exit_named("main", code),
                Happening::SandboxDies => {
                    if let Some(id) = w.sandboxes.last().map(|s| s.id.clone()) {
                        w.sandbox_dies(&id);
                    }
                }
                Happening::Pass(seconds) => w.pass(seconds),
                Happening::Forget => w.forget(),
                _ => { w.step(); }
            }
        }
        w.pass(400);
        w.settle();
        prop_assert!(w.running("main").is_some() && holds(&w.status(), "Ready"));
    }
}
