use super::*;
use serde_json::Value;

const NOW: &str = "2026-11-23T12:00:00Z";
const PV: &str = "kubernetes.io/csi/d^h-pv";

fn volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        driver: "d".to_owned(),
        handle: format!("h-{name}"),
        is_shareable: false,
    }
}

fn pod(namespace: &str, name: &str) -> Arc<Pod> {
    let uid = format!("{namespace}-{name}");
    let meta = json!({"namespace": namespace, "name": name, "uid": uid});
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap())
}

fn need(name: &str) -> Need {
    Need {
        volume: volume(name),
        pods: vec![pod("x", "p")],
        elsewhere: BTreeMap::new(),
    }
}

fn attachment(name: &str, status: Value) -> Attachment {
    let volume = volume(name);
    let meta = json!({"name": volume.attachment_name("n"), "uid": format!("va-{name}"), "resourceVersion": "7",
        "deletionTimestamp": status["deleted"].is_string().then_some(NOW)});
    let spec = json!({"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": name}});
    let object = json!({"metadata": meta, "spec": spec,
        "status": {"attached": status["attached"] == true, "attachError": status["error"]}});
    Attachment {
        object: Arc::new(serde_json::from_value(object).unwrap()),
        volume: Some(volume),
    }
}

fn node(ready: &str, attached: &[&str], in_use: &[&str], taint: &str) -> Option<Arc<Node>> {
    let attached: Vec<Value> = attached
        .iter()
        .map(|name| json!({"name": name, "devicePath": ""}))
        .collect();
    let node = json!({
        "metadata": {"name": "n", "resourceVersion": "3", "annotations": {MANAGED: "true"}},
        "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "volumesAttached": attached,
            "volumesInUse": in_use},
    });
    Some(Arc::new(serde_json::from_value(node).unwrap()))
}

fn seen(node: Option<Arc<Node>>, needs: Vec<Need>, attachments: Vec<Attachment>) -> Observed {
    Observed {
        name: "n".to_owned(),
        node,
        needs,
        attachments,
    }
}

/// What a plan does, in words, and the events that it has.
fn outcome(seen: &Observed, memory: &mut Memory, after_s: i64) -> (Vec<String>, Vec<String>) {
    let now = NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(after_s);
    let plan = plan(seen, memory, now);
    let word = |action: &Action| match &action.write {
        crate::Write::Create(object) => format!("attach {}", object.body["spec"]["source"]["persistentVolumeName"]),
        crate::Write::Delete { target, .. } => format!("detach {}", target.uid),
        crate::Write::Patch { patch, .. } => {
            let names = patch["status"]["volumesAttached"].as_array().unwrap().iter();
            let names: Vec<&str> = names.map(|volume| volume["name"].as_str().unwrap()).collect();
            format!("list {}", names.join(" "))
        }
        other => panic!("{other:?}"),
    };
    let told = plan.events.iter().map(|event| event.notice.message.clone()).collect();
    (plan.actions().map(word).collect(), told)
}

fn steps(seen: &Observed) -> Vec<String> {
    outcome(seen, &mut Memory::default(), 0).0
}

#[test]
fn what_is_needed_is_attached_and_then_listed() {
    let ready = |listed: &[&str]| node("True", listed, &[], "");
    let mut memory = Memory::default();
    let first = outcome(&seen(ready(&[]), vec![need("pv")], vec![]), &mut memory, 0);
    assert_eq!(first.0, ["attach \"pv\""]);
    assert!(memory.promised.contains(PV));
    let with = |status: Value, listed: &[&str]| seen(ready(listed), vec![need("pv")], vec![attachment("pv", status)]);
    assert!(steps(&with(json!({}), &[])).is_empty(), "its driver is waited for");
    let mut memory = Memory::default();
    let attached = outcome(&with(json!({"attached": true}), &[]), &mut memory, 0);
    assert_eq!(attached.0, [format!("list {PV}")]);
    assert_eq!(attached.1, ["AttachVolume.Attach succeeded for volume \"pv\" "]);
    assert_eq!(memory.promised.len(), 0);
    assert_eq!(
        outcome(&with(json!({"attached": true}), &[PV]), &mut memory, 0),
        (vec![], vec![])
    );
    let going = with(json!({"attached": true, "deleted": "yes"}), &[PV]);
    assert_eq!(steps(&going), ["list "], "what is being detached is not to be mounted");
    assert!(
        steps(&seen(None, vec![need("pv")], vec![])).is_empty(),
        "there is no node"
    );
}

#[test]
fn lists_of_other_sorts_of_volumes_stay() {
    let other = "kubernetes.io/other/x";
    let seen = seen(
        node("True", &[other, "kubernetes.io/csi/d^gone"], &[], ""),
        vec![need("pv")],
        vec![attachment("pv", json!({"attached": true}))],
    );
    assert_eq!(steps(&seen), [format!("list {other} {PV}")]);
}

#[test]
fn nodes_that_attach_themselves_are_left_alone() {
    let unmanaged = Arc::new(Node::default());
    assert!(
        steps(&seen(
            Some(unmanaged),
            vec![need("pv")],
            vec![attachment("b", json!({}))]
        ))
        .is_empty()
    );
}

#[test]
fn what_nobody_needs_is_unlisted_and_then_detached() {
    let idle = |node, status| steps(&seen(node, vec![], vec![attachment("pv", status)]));
    let attached = json!({"attached": true});
    assert_eq!(
        idle(node("True", &[PV], &[], ""), attached.clone()),
        ["list ", "detach va-pv"]
    );
    assert_eq!(idle(node("True", &[], &[], ""), attached.clone()), ["detach va-pv"]);
    assert_eq!(
        idle(node("True", &[], &[], ""), json!({})),
        ["detach va-pv"],
        "attaching is given up"
    );
    assert!(
        idle(node("True", &[PV], &[PV], ""), attached.clone()).is_empty(),
        "it is in use"
    );
    assert_eq!(
        idle(node("True", &[], &[PV], ""), attached.clone()),
        [format!("list {PV}")]
    );
    let going = json!({"attached": true, "deleted": "yes"});
    assert!(idle(node("True", &[], &[], ""), going).is_empty());
}

#[test]
fn a_node_that_may_be_dead_keeps_what_it_uses_for_a_while() {
    let attachments = || vec![attachment("pv", json!({"attached": true}))];
    let check = |node: Option<Arc<Node>>, after_s| {
        let mut memory = Memory::default();
        let seen = seen(node, vec![], attachments());
        outcome(&seen, &mut memory, 0);
        outcome(&seen, &mut memory, after_s).0
    };
    for (ready, taint, after_s, expected) in [
        ("True", "", 100_000, &[][..]),
        ("Unknown", "", 359, &[]),
        ("Unknown", "", 360, &["list ", "detach va-pv"]),
        ("Unknown", OUT_OF_SERVICE, 0, &["list ", "detach va-pv"]),
    ] {
        let found = check(node(ready, &[PV], &[PV], taint), after_s);
        assert_eq!(found, expected, "{ready} {taint} {after_s}");
    }
    assert!(
        check(None, 359).is_empty(),
        "what a node used that is gone is not known"
    );
    assert_eq!(check(None, 360), ["detach va-pv"]);
    let mut memory = Memory::default();
    let used = || vec![attachment("pv", json!({"attached": true}))];
    outcome(
        &seen(node("True", &[PV], &[], ""), vec![need("pv")], used()),
        &mut memory,
        0,
    );
    let gone = outcome(&seen(None, vec![], used()), &mut memory, 1);
    assert_eq!(gone.0, ["detach va-pv"], "it used nothing when it went");
}

#[test]
fn attachments_of_others_and_of_volumes_that_are_gone() {
    let mut others = attachment("pv", json!({"attached": true}));
    Arc::make_mut(&mut others.object).metadata.name = Some("by-hand".to_owned());
    assert!(steps(&seen(node("True", &[], &[], ""), vec![], vec![others.clone()])).is_empty());
    others.volume = None;
    assert!(steps(&seen(node("True", &[], &[], ""), vec![], vec![others])).is_empty());
    let mut lost = attachment("pv", json!({"attached": true}));
    lost.volume = None;
    let with = |in_use: &[&str]| steps(&seen(node("True", &[PV], in_use, ""), vec![], vec![lost.clone()]));
    assert_eq!(with(&[]), ["list ", "detach va-pv"]);
    assert!(with(&[PV]).is_empty(), "known by what its node calls it");
}

#[test]
fn a_volume_for_one_node_is_not_taken_from_another() {
    let check = |elsewhere: Elsewhere, is_shareable| {
        let mut needed = need("pv");
        needed.volume.is_shareable = is_shareable;
        needed.elsewhere = [("m".to_owned(), elsewhere)].into();
        let mut memory = Memory::default();
        let seen = seen(node("True", &[], &[], ""), vec![needed], vec![]);
        let first = outcome(&seen, &mut memory, 0);
        assert!(outcome(&seen, &mut memory, 1).1.is_empty(), "it is told once");
        first
    };
    let made = |pods: &[Arc<Pod>]| Elsewhere {
        is_made: true,
        pods: pods.to_vec(),
    };
    let begin = "Multi-Attach error for volume \"pv\" Volume is already";
    for (pods, expected) in [
        (
            vec![],
            format!("{begin} exclusively attached to one node and can't be attached to another"),
        ),
        (
            vec![pod("x", "a"), pod("x", "b")],
            format!("{begin} used by pod(s) a, b"),
        ),
        (
            vec![pod("y", "a")],
            format!("{begin} used by 1 pod(s) in different namespaces"),
        ),
        (
            vec![pod("x", "a"), pod("y", "b")],
            format!("{begin} used by pod(s) a and 1 pod(s) in different namespaces"),
        ),
    ] {
        assert_eq!(check(made(&pods), false), (vec![], vec![expected]));
    }
    assert_eq!(check(Elsewhere::default(), false), (vec![], vec![]), "promised only");
    assert_eq!(check(made(&[]), true).0, ["attach \"pv\""]);
}

#[test]
fn a_driver_that_fails_is_told_of_once_for_each_try() {
    let mut memory = Memory::default();
    let mut told = |time: &str| {
        let error = json!({"error": {"message": "no", "time": time}});
        let seen = seen(
            node("True", &[], &[], ""),
            vec![need("pv")],
            vec![attachment("pv", error)],
        );
        outcome(&seen, &mut memory, 0).1
    };
    let expected = "AttachVolume.Attach failed for volume \"pv\" : no";
    assert_eq!(told("2026-11-23T12:00:00Z"), [expected]);
    assert!(told("2026-11-23T12:00:00Z").is_empty());
    assert_eq!(told("2026-11-23T12:00:01Z"), [expected]);
}
