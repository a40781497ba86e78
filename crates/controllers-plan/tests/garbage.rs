//! Garbage collection on a model server: whatever the graph and the deletions, what must go goes and nothing else.

use api::k8s::api::core::v1::{ConfigMap, Namespace, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use controllers_plan::garbage::{Observed, Owner, owner_target, plan, waits_for_dependents};
use controllers_plan::{Action, AnyObject, Guard, Kind, Plan, Propagation, Write, namespaces};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
struct Model {
    objects: BTreeMap<String, AnyObject>,
    /// Names of objects that the planner's cache does not show although they exist.
    unseen: Vec<String>,
}

fn reference(name: &str, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        block_owner_deletion: Some(blocks),
        controller: None,
    }
}

impl Model {
    fn add(&mut self, name: &str, owners: &[(&str, bool)]) {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            uid: Some(format!("uid-{name}")),
            owner_references: Some(owners.iter().map(|(owner, blocks)| reference(owner, *blocks)).collect()),
            ..ObjectMeta::default()
        };
        let kind = Arc::new(Kind::of::<ConfigMap>());
        self.objects.insert(name.into(), AnyObject::new(kind, metadata));
    }

    fn delete(&mut self, name: &str, propagation: Propagation) {
        let Some(object) = self.objects.get_mut(name) else {
            return;
        };
        let finalizers = &mut object.finalizers;
        finalizers.retain(|one| one != "foregroundDeletion" && one != "orphan");
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push("foregroundDeletion".into()),
            Propagation::Orphan => finalizers.push("orphan".into()),
        }
        object.is_terminating = true;
        self.sweep(name);
    }

    fn sweep(&mut self, name: &str) {
        let object = &self.objects[name];
        if object.is_terminating && object.finalizers.is_empty() {
            self.objects.remove(name);
        }
    }

    fn plan(&self, name: &str) -> Plan {
        let Some(object) = self.objects.get(name) else {
            return Plan::default();
        };
        let owner = |reference: &OwnerReference| match self.objects.get(&reference.name) {
            Some(owner) if *owner.uid == *reference.uid && !self.unseen.contains(&reference.name) => {
                Owner::Exists(Arc::new(owner.clone()))
            }
            _ => Owner::Missing(owner_target(reference, *object.kind, true, object).expect("it has a namespace")),
        };
        let names = |other: &&AnyObject| {
            let mut references = other.owner_references.iter();
            references.any(|one| *one.uid == *object.uid)
        };
        plan(&Observed {
            owners: object.owner_references.iter().map(owner).collect(),
            dependents: self.objects.values().filter(names).cloned().map(Arc::new).collect(),
            object: Some(Arc::new(object.clone())),
        })
    }

    fn carry_out(&mut self, plan: &Plan) -> usize {
        plan.actions().take_while(|action| self.write(action)).count()
    }

    fn write(&mut self, action: &Action) -> bool {
        if let Some(Guard::Gone(target)) = &action.guard
            && self.objects.contains_key(&target.key.name)
        {
            return false;
        }
        match &action.write {
            Write::Patch { target, patch, .. } => {
                let object = self.objects.get_mut(&target.key.name).expect("seen");
                let patch = &patch["metadata"];
                if let Some(finalizers) = patch.get("finalizers") {
                    object.finalizers = serde_json::from_value(finalizers.clone()).expect("names");
                }
                if let Some(owners) = patch.get("ownerReferences") {
                    let owners: Option<_> = serde_json::from_value(owners.clone()).expect("references");
                    object.owner_references = owners.unwrap_or_default();
                }
                self.sweep(&target.key.name);
            }
            Write::Kill { .. } => panic!("only pods are killed, and not here"),
            Write::Delete { target, propagation } => {
                self.delete(&target.key.name, propagation.expect("always said"));
            }
            Write::Create(_) | Write::Replace { .. } => panic!("nothing is made here"),
        }
        true
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            let names: Vec<String> = self.objects.keys().cloned().collect();
            let writes: usize = names.iter().map(|name| self.carry_out(&self.plan(name))).sum();
            if writes == 0 {
                return;
            }
        }
        panic!("never settles: {:?}", self.objects);
    }

    fn names(&self) -> Vec<&str> {
        self.objects.keys().map(String::as_str).collect()
    }
}

#[test]
fn nothing_is_deleted_for_an_owner_that_only_the_cache_does_not_know() {
    let mut model = Model::default();
    model.add("a", &[]);
    model.add("b", &[("a", true)]);
    model.unseen.push("a".into());
    model.settle();
    assert_eq!(model.names(), ["a", "b"]);
}

#[test]
fn a_foreground_deletion_goes_from_the_leaves_to_the_root() {
    let mut model = Model::default();
    model.add("root", &[]);
    model.add("middle", &[("root", true)]);
    model.add("leaf", &[("middle", true)]);
    model.delete("root", Propagation::Foreground);
    model.carry_out(&model.plan("root"));
    assert_eq!(model.names(), ["leaf", "middle", "root"]);
    model.carry_out(&model.plan("middle"));
    assert!(waits_for_dependents(&model.objects["middle"]));
    model.carry_out(&model.plan("leaf"));
    assert_eq!(model.names(), ["middle", "root"]);
    model.settle();
    assert_eq!(model.names(), [""; 0]);
}

#[test]
fn two_that_own_each_other_do_not_wait_for_ever() {
    let mut model = Model::default();
    model.add("a", &[("b", true)]);
    model.add("b", &[("a", true)]);
    model.delete("a", Propagation::Foreground);
    model.settle();
    assert_eq!(model.names(), [""; 0]);
}

#[test]
fn an_owner_that_is_kept_by_others_lets_go() {
    let mut model = Model::default();
    model.add("a", &[]);
    model.add("b", &[]);
    model.add("c", &[("a", true), ("b", true)]);
    model.delete("a", Propagation::Foreground);
    model.settle();
    assert_eq!(model.names(), ["b", "c"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// In an acyclic graph: what is left has no owners any more, or one that is left; and nothing went that had an
    /// owner that nobody deleted.
    #[test]
    fn what_must_go_goes(
        edges in prop::collection::vec((0_usize..12, 0_usize..12, any::<bool>()), 0..30),
        deletions in prop::collection::vec((0_usize..12, 0_u8..3), 0..4),
    ) {
        let mut model = Model::default();
        let name = |index: usize| format!("o{index:02}");
        let mut owners: BTreeMap<usize, Vec<(String, bool)>> = BTreeMap::new();
        for (a, b, blocks) in edges.into_iter().filter(|(a, b, _)| a != b) {
            let of = owners.entry(a.max(b)).or_default();
            if of.iter().all(|(owner, _)| *owner != name(a.min(b))) {
                of.push((name(a.min(b)), blocks));
            }
        }
        for index in 0..12 {
            let owners = owners.get(&index).cloned().unwrap_or_default();
            let owners: Vec<(&str, bool)> = owners.iter().map(|(name, blocks)| (name.as_str(), *blocks)).collect();
            model.add(&name(index), &owners);
        }
        let mut expected: BTreeMap<String, bool> = (0..12).map(|index| (name(index), true)).collect();
        let only_cascading = deletions.iter().all(|(_, how)| *how < 2);
        for (index, how) in &deletions {
            expected.insert(name(*index), false);
            model.delete(&name(*index), [Propagation::Background, Propagation::Foreground, Propagation::Orphan][usize::from(*how)]);
        }
        model.settle();
        for (name, object) in &model.objects {
            let owners = &object.owner_references;
            prop_assert!(!object.is_terminating, "{} hangs", name);
            prop_assert!(owners.is_empty() || owners.iter().any(|one| model.objects.contains_key(&one.name)));
        }
        if only_cascading {
            // Owners come before dependents, so one pass says who must be left.
            for index in 0..12 {
                let of = owners.get(&index).cloned().unwrap_or_default();
                let kept = of.is_empty() || of.iter().any(|(owner, _)| expected[owner]);
                let is_left = expected[&name(index)] && kept;
                expected.insert(name(index), is_left);
                prop_assert_eq!(model.objects.contains_key(&name(index)), is_left, "{}", name(index));
            }
        }
    }
}

fn namespace(finalizers: &[&str]) -> Option<Arc<Namespace>> {
    let namespace = json!({"metadata": {"name": "ns", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": finalizers}, "status": {"phase": "Terminating"}});
    Some(Arc::new(serde_json::from_value(namespace).expect("a namespace")))
}

#[test]
fn a_namespace_is_emptied_pods_first_and_then_let_go() {
    let object = |kind: Kind, name: &str, is_terminating: bool| {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            deletion_timestamp: is_terminating.then_some(Time(Timestamp::UNIX_EPOCH)),
            finalizers: Some(vec!["f".into()]),
            ..ObjectMeta::default()
        };
        Arc::new(AnyObject::new(Arc::new(kind), metadata))
    };
    let (pod, map) = (Kind::of::<Pod>(), Kind::of::<ConfigMap>());
    let check = |contents: &[Arc<AnyObject>], expected: &[&str]| {
        let observed = namespaces::Observed {
            namespace: namespace(&["kubernetes"]),
            contents: contents.to_vec(),
            kinds: vec![pod, map],
        };
        let plan = namespaces::plan(&observed, Timestamp::UNIX_EPOCH);
        let names: Vec<&str> = plan.actions().map(|action| action.key().name.as_str()).collect();
        assert_eq!(names, expected);
        assert!(!plan.because.is_empty());
        plan
    };
    check(&[object(pod, "p", false), object(map, "m", false)], &["p"]);
    let plan = check(&[object(pod, "p", true), object(map, "m", false)], &[]);
    let status = plan.status.expect("people wait");
    let Write::Patch { patch, .. } = status.write else {
        panic!("a patch")
    };
    let messages: Vec<_> = patch["status"]["conditions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["message"].clone())
        .collect();
    assert!(messages.contains(&json!(
        "Some resources are remaining: configmaps has 1 resource instances, pods has 1 resource instances"
    )));
    assert!(messages.contains(&json!(
        "Some content in the namespace has finalizers remaining: f in 2 resource instances"
    )));
    check(&[object(map, "m", false)], &["m"]);
    let plan = check(&[], &["ns"]);
    let action = plan.actions().next().expect("one");
    assert_eq!(
        action.guard,
        Some(Guard::NoneLeft {
            kinds: vec![pod, map],
            namespace: "ns".into()
        })
    );
    let Write::Replace { subresource, body, .. } = &action.write else {
        panic!("a replacement")
    };
    assert_eq!((*subresource, &body["spec"]["finalizers"]), ("finalize", &json!([])));
    let done = namespaces::Observed {
        namespace: namespace(&["other"]),
        ..namespaces::Observed::default()
    };
    assert!(namespaces::plan(&done, Timestamp::UNIX_EPOCH).is_quiet());
}
