use super::*;
use crate::observed::{Memory, Sandbox, Volumes};
use crate::plan::plan as plan_pod;
use serde_json::{Value, json};

const GRACE: i64 = 5;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn pod(cpu: &str, memory: &str, policy: Value) -> Pod {
    let spec = json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": GRACE,
        "containers": [{"name": "c", "image": "i", "resources": resources(cpu, memory), "resizePolicy": policy}],
    });
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u", "generation": 2}, "spec": spec})).unwrap()
}

fn container(has: Value) -> Container {
    Container {
        id: "id".into(),
        sandbox_id: "s".into(),
        name: "c".into(),
        state: ContainerState::Running,
        resources: serde_json::from_value(has).unwrap(),
        ..Container::default()
    }
}

/// What is planned for a pod that runs with `has` and was granted what it says.
fn planned(pod: &Pod, c: Container, memory: impl FnOnce(&mut Memory)) -> Plan {
    let mut remembered = Memory {
        granted: Granted {
            containers: wanted(pod.spec.as_ref().unwrap()),
            ..Granted::default()
        },
        ..Memory::default()
    };
    memory(&mut remembered);
    let sandboxes = [Sandbox {
        id: "s".into(),
        ready: true,
        ips: vec!["10.0.0.1".into()],
        ..Sandbox::default()
    }];
    let seen = Observed {
        pod,
        removed: false,
        sandboxes: &sandboxes,
        containers: &[c],
        memory: &remembered,
        volumes: &Volumes::Ready,
        busy: &BTreeMap::new(),
        host_ips: &["10.0.0.2".to_owned()],
        runtime: "r",
    };
    plan_pod(&seen, Timestamp::from_second(1000).unwrap())
}

fn conditions(plan: &Plan) -> Vec<String> {
    let all = plan.status.conditions.iter().flatten();
    let resize = all.filter(|c| c.type_.starts_with("PodResize"));
    resize
        .map(|c| format!("{} {}", c.type_, c.reason.clone().unwrap_or_default()))
        .collect()
}

#[test]
fn what_differs_is_changed_in_place() {
    let pod = pod("200m", "64Mi", json!([]));
    let plan = planned(&pod, container(resources("100m", "64Mi")), |_| ());
    let containers = vec![("c".to_owned(), "id".to_owned())];
    assert_eq!(plan.steps, [Step::Resize { containers }]);
    assert_eq!(conditions(&plan), ["PodResizeInProgress "]);
    let status = &plan.status.container_statuses.unwrap()[0];
    let amounts = |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().unwrap()["cpu"].0.clone();
    assert_eq!(amounts(&status.allocated_resources), "200m");
    assert_eq!(amounts(&status.resources.as_ref().unwrap().requests), "100m");
}

#[test]
fn the_same_in_other_words_is_no_change() {
    let pod = pod("1", "1Gi", json!([]));
    let plan = planned(&pod, container(resources("1000m", "1024Mi")), |_| ());
    assert_eq!(plan.steps, []);
    assert_eq!(conditions(&plan), [""; 0]);
}

#[test]
fn what_was_applied_since_counts() {
    let pod = pod("200m", "64Mi", json!([]));
    let plan = planned(&pod, container(resources("100m", "64Mi")), |memory| {
        let applied = serde_json::from_value(resources("200m", "64Mi")).unwrap();
        memory.granted.applied.insert("id".into(), applied);
    });
    assert_eq!(plan.steps, []);
}

#[test]
fn a_container_restarts_where_its_policy_says_so_and_comes_back_at_once() {
    let policy = json!([
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]);
    let pod = pod("200m", "128Mi", policy);
    let running = container(resources("100m", "64Mi"));
    let plan = planned(&pod, running.clone(), |_| ());
    assert!(
        matches!(&plan.steps[..], [Step::Kill { why, grace_s: GRACE, .. }] if why == "Container c resize requires restart"),
        "{:?}",
        plan.steps
    );
    // It ended well, which would be the end of it by the pod's policy, and it had crashed before.
    let ended = Container {
        state: ContainerState::Exited,
        finished_at: Some(Timestamp::from_second(1000).unwrap()),
        backoff_s: 300,
        ..running
    };
    let plan = planned(&pod, ended, |_| ());
    assert!(
        matches!(&plan.steps[..], [Step::Start { restart_count: 1, .. }]),
        "{:?}",
        plan.steps
    );
    assert_eq!(conditions(&plan), ["PodResizeInProgress "]);
    // Only cpu differs: no restart.
    let plan = planned(&pod, container(resources("100m", "128Mi")), |_| ());
    assert!(matches!(&plan.steps[..], [Step::Resize { .. }]), "{:?}", plan.steps);
}

#[test]
fn a_failed_resize_waits_and_is_told() {
    let pod = pod("200m", "64Mi", json!([]));
    let plan = planned(&pod, container(resources("100m", "64Mi")), |memory| {
        memory.resize_failure = Some(crate::observed::Failure {
            message: "no".into(),
            retry_at: Timestamp::from_second(1010).unwrap(),
            times: 1,
        });
        memory.resize_pending = Some(Pending {
            reason: "Deferred",
            message: "later".into(),
        });
    });
    assert_eq!(plan.steps, []);
    assert_eq!(plan.again_at, Some(Timestamp::from_second(1010).unwrap()));
    assert_eq!(
        conditions(&plan),
        ["PodResizePending Deferred", "PodResizeInProgress Error"]
    );
}

#[test]
fn the_pods_cgroup_follows() {
    let pod = pod("200m", "64Mi", json!([]));
    let plan = planned(&pod, container(resources("200m", "64Mi")), |memory| {
        memory.granted.cgroup = Some(ContainerResources::default());
    });
    assert_eq!(plan.steps, [Step::Resize { containers: vec![] }]);
}

#[test]
fn a_node_has_only_so_much() {
    let node = BTreeMap::from([
        ("cpu".to_owned(), Quantity("2".into())),
        ("memory".to_owned(), Quantity("1Gi".into())),
    ]);
    let of = |cpu_milli, memory_bytes| Requests {
        cpu_milli,
        memory_bytes,
    };
    let check = |wanted, others, expected: Option<(&str, &str)>| {
        let found = admit(wanted, others, &node).err();
        assert_eq!(found.as_ref().map(|p| (p.reason, p.message.as_str())), expected);
    };
    check(of(2000, 1 << 30), of(0, 0), None);
    let message = "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000";
    check(of(2001, 0), of(0, 0), Some(("Infeasible", message)));
    let message = "Node didn't have enough resource: memory, requested: 1, used: 1073741824, capacity: 1073741824";
    check(of(0, 1), of(5000, 1 << 30), Some(("Deferred", message)));
}

#[test]
fn a_pod_requests_what_it_needs_at_its_hungriest_moment() {
    let spec: PodSpec = serde_json::from_value(json!({
        "overhead": {"cpu": "10m"},
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            {"name": "i", "resources": {"requests": {"cpu": "500m", "memory": "1Ki"}}},
        ],
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "200m", "memory": "2Ki"}}}],
    }))
    .unwrap();
    let expected = Requests {
        cpu_milli: 610,
        memory_bytes: 2048,
    };
    assert_eq!(requests(&spec), expected);
}

#[test]
fn only_less_memory_is_looked_at_before() {
    let pod = pod("1", "64Mi", json!([]));
    let spec = pod.spec.as_ref().unwrap();
    let check = |has: Value, expected: Option<i64>| {
        let has = serde_json::from_value(has).unwrap();
        assert_eq!(memory_shrinks_to(spec, &spec.containers[0], &has), expected);
    };
    check(resources("1", "128Mi"), Some(64 << 20));
    check(json!({}), Some(64 << 20));
    check(resources("1", "32Mi"), None);
    check(resources("2", "64Mi"), None);
}
