//! Claims and volumes against a model of the server that checks preconditions, as the real one does.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::storage::v1::StorageClass;
use controllers_plan::claims::{
    ObservedClaim, ObservedUse, ObservedVolume, plan_claim, plan_claim_protection, plan_volume, plan_volume_protection,
};
use controllers_plan::{Action, Guard, Plan, Target, Write};
use jiff::Timestamp;
use json_patch::merge;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Default)]
struct Model {
    /// Objects by kind and name, as JSON.
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    classes: Vec<Arc<StorageClass>>,
    nodes: Vec<Arc<Node>>,
    told: Vec<String>,
}

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUME: &str = "PersistentVolume";

impl Model {
    fn new() -> Self {
        let class = |name: &str, more: Value| {
            let mut class = json!({"metadata": {"name": name}, "provisioner": "steadfast.io/local",
                "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete", "parameters": {"path": "/data"}});
            merge(&mut class, &more);
            Arc::new(serde_json::from_value(class).unwrap())
        };
        let immediate = json!({"volumeBindingMode": "Immediate"});
        let hand = json!({"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "Immediate"});
        let other = json!({"provisioner": "x/y", "volumeBindingMode": "Immediate"});
        let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "host1"}}});
        Self {
            classes: vec![
                class("standard", json!({})),
                class("now", immediate),
                class("hand", hand),
                class("other", other),
                class(
                    "pathless",
                    json!({"volumeBindingMode": "Immediate", "parameters": null}),
                ),
                class("with-fs", json!({"parameters": {"path": "/data", "fs": "ext4"}})),
            ],
            nodes: vec![Arc::new(serde_json::from_value(node).unwrap())],
            ..Self::default()
        }
    }

    fn put(&mut self, kind: &str, name: &str, more: Value) {
        self.version += 1;
        let fresh = || {
            let mut object = json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {"accessModes": ["ReadWriteOnce"]},
                "status": {"phase": "Pending"}});
            if kind == CLAIM {
                object["metadata"]["namespace"] = json!("ns");
                object["spec"]["resources"] = json!({"requests": {"storage": "1Gi"}});
            } else {
                object["spec"]["capacity"] = json!({"storage": "1Gi"});
            }
            object
        };
        let object = self
            .objects
            .entry((kind.to_owned(), name.to_owned()))
            .or_insert_with(fresh);
        merge(object, &more);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn claim(&self, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let claim = self.objects.get(&(CLAIM.to_owned(), name.to_owned()))?;
        Some(Arc::new(serde_json::from_value(claim.clone()).unwrap()))
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        let volumes = self.objects.iter().filter(|((kind, _), _)| kind == VOLUME);
        volumes
            .map(|(_, volume)| Arc::new(serde_json::from_value(volume.clone()).unwrap()))
            .collect()
    }

    fn names(&self, kind: &str) -> Vec<String> {
        self.objects
            .keys()
            .filter(|(of, _)| of == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn plan_claim(&self, name: &str) -> Plan {
        plan_claim(&ObservedClaim {
            claim: self.claim(name),
            volumes: self.volumes(),
            classes: self.classes.clone(),
            nodes: self.nodes.clone(),
            waiting_pods: Vec::new(),
        })
    }

    fn plan_volume(&self, name: &str) -> Plan {
        let volume = self
            .volumes()
            .into_iter()
            .find(|volume| volume.metadata.name.as_deref() == Some(name));
        let promise = volume
            .as_ref()
            .and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref()?.name.clone());
        let claim = promise.and_then(|name| self.claim(&name));
        plan_volume(&ObservedVolume { volume, claim }, Timestamp::UNIX_EPOCH)
    }

    /// Carries out at most `limit` writes, as if there was a crash then; stops at the first refusal.
    fn carry_out(&mut self, plan: &Plan, limit: usize) -> usize {
        self.told.extend(
            plan.events
                .iter()
                .map(|event| format!("{} {}", event.notice.reason, event.notice.message)),
        );
        let mut done = 0;
        for action in plan.actions().take(limit) {
            if !self.write(action) {
                break;
            }
            done += 1;
        }
        if let Some(status) = plan.status.as_ref().filter(|_| limit > done) {
            done += usize::from(self.write(status));
        }
        done
    }

    fn write(&mut self, action: &Action) -> bool {
        if let Some(Guard::Gone(target)) = &action.guard
            && self
                .find(target)
                .is_some_and(|object| object["metadata"]["uid"] == target.uid)
        {
            return false;
        }
        match &action.write {
            Write::Create(object) => {
                let key = (object.key.kind.kind.to_owned(), object.key.name.clone());
                if self.objects.contains_key(&key) {
                    return false;
                }
                let mut body = object.body.clone();
                body["metadata"]["uid"] = json!(format!("uid-{}", key.1));
                body["status"] = json!({"phase": "Pending"});
                self.put(&key.0, &key.1, body);
            }
            Write::Patch { target, patch, .. } => {
                let Some(object) = self.find(target) else { return false };
                let version = object["metadata"]["resourceVersion"].as_str().unwrap();
                let is_current = target.resource_version.is_empty() || target.resource_version == version;
                if object["metadata"]["uid"] != target.uid || !is_current {
                    return false;
                }
                self.put(target.key.kind.kind, &target.key.name, patch.clone());
            }
            Write::Replace { .. } | Write::Delete { .. } | Write::Kill { .. } => {
                panic!("claims and volumes are only patched")
            }
        }
        true
    }

    fn find(&self, target: &Target) -> Option<&Value> {
        self.objects
            .get(&(target.key.kind.kind.to_owned(), target.key.name.clone()))
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let mut writes = 0;
            for name in self.names(CLAIM) {
                writes += self.carry_out(&self.plan_claim(&name), usize::MAX);
            }
            for name in self.names(VOLUME) {
                writes += self.carry_out(&self.plan_volume(&name), usize::MAX);
            }
            if writes == 0 {
                return;
            }
        }
        panic!("never settles");
    }

    fn field(&self, kind: &str, name: &str, pointer: &str) -> Value {
        let object = &self.objects[&(kind.to_owned(), name.to_owned())];
        object.pointer(pointer).cloned().unwrap_or(Value::Null)
    }
}

fn of_class(class: &str) -> Value {
    json!({"spec": {"storageClassName": class}})
}

#[test]
fn a_claim_is_told_why_it_waits() {
    let check = |class: &str, event: &str| {
        let mut model = Model::new();
        model.put(CLAIM, "c", of_class(class));
        model.settle();
        assert_eq!(model.told.first().map(String::as_str), Some(event));
        assert_eq!(model.field(CLAIM, "c", "/status/phase"), "Pending");
        assert!(!model.plan_claim("c").because.is_empty());
    };
    check(
        "",
        "FailedBinding no persistent volumes available for this claim and no storage class is set",
    );
    check(
        "none",
        "ProvisioningFailed storageclass.storage.k8s.io \"none\" not found",
    );
    check(
        "standard",
        "WaitForFirstConsumer waiting for first consumer to be created before binding",
    );
    check(
        "hand",
        "ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner",
    );
    check(
        "pathless",
        "ProvisioningFailed failed to provision volume with StorageClass \"pathless\": its parameter \"path\" is not an absolute path",
    );
    check(
        "other",
        "ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'x/y' or manually by \
        the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
    );
}

#[test]
fn what_is_more_than_a_directory_is_left_to_the_driver_of_the_node() {
    let check = |class: &str, more: Value| {
        let mut model = Model::new();
        model.put(CLAIM, "c", of_class(class));
        let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
        model.put(CLAIM, "c", chosen);
        model.put(CLAIM, "c", json!({"spec": more}));
        model.settle();
        assert!(model.names(VOLUME).is_empty(), "{class} {more}");
        for key in ["volume.kubernetes.io", "volume.beta.kubernetes.io"] {
            let path = format!("/metadata/annotations/{key}~1storage-provisioner");
            assert_eq!(model.field(CLAIM, "c", &path), "steadfast.io/local", "{class} {more}");
        }
    };
    check("with-fs", json!({}));
    check("standard", json!({"volumeMode": "Block"}));
    let other = json!({"kind": "PersistentVolumeClaim", "name": "other"});
    check("standard", json!({"dataSource": other}));
}

#[test]
fn a_local_volume_is_made_where_the_scheduler_said() {
    let mut model = Model::new();
    model.put(CLAIM, "c", of_class("standard"));
    model.settle();
    assert!(model.names(VOLUME).is_empty());
    model.put(
        CLAIM,
        "c",
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}),
    );
    model.settle();
    let name = "pvc-uid-c";
    assert_eq!(model.names(VOLUME), [name]);
    assert_eq!(
        model.field(VOLUME, name, "/spec/hostPath"),
        json!({"path": "/data/pvc-uid-c", "type": "DirectoryOrCreate"})
    );
    assert_eq!(model.field(VOLUME, name, "/spec/claimRef/uid"), "uid-c");
    assert_eq!(
        model.field(
            VOLUME,
            name,
            "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0"
        ),
        json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["host1"]})
    );
    assert_eq!(
        model.field(VOLUME, name, "/metadata/finalizers"),
        json!(["kubernetes.io/pv-protection", "steadfast.io/local-volume"])
    );
    assert_eq!(
        model.field(VOLUME, name, "/metadata/annotations/pv.kubernetes.io~1provisioned-by"),
        "steadfast.io/local"
    );
    assert_eq!(model.field(VOLUME, name, "/status/phase"), "Bound");
    assert_eq!(model.field(CLAIM, "c", "/spec/volumeName"), name);
    assert_eq!(
        model.field(CLAIM, "c", "/status"),
        json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}})
    );
    assert_eq!(
        model.field(CLAIM, "c", "/metadata/annotations/pv.kubernetes.io~1bind-completed"),
        "yes"
    );

    model.objects.remove(&(CLAIM.to_owned(), "c".to_owned()));
    model.settle();
    assert_eq!(model.field(VOLUME, name, "/status/phase"), "Released");
}

#[test]
fn a_retained_local_volume_may_be_deleted_by_people() {
    let check = |policy: &str, expected: Value| {
        let mut model = Model::new();
        model.put(CLAIM, "c", of_class("now"));
        model.settle();
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"persistentVolumeReclaimPolicy": policy}});
        model.put(VOLUME, "pvc-uid-c", going);
        model.settle();
        let both = json!(["kubernetes.io/pv-protection", "steadfast.io/local-volume"]);
        assert_eq!(model.field(VOLUME, "pvc-uid-c", "/metadata/finalizers"), both);
        model.objects.remove(&(CLAIM.to_owned(), "c".to_owned()));
        model.settle();
        assert_eq!(model.field(VOLUME, "pvc-uid-c", "/metadata/finalizers"), expected);
    };
    check("Retain", json!(["kubernetes.io/pv-protection"]));
    check(
        "Delete",
        json!(["kubernetes.io/pv-protection", "steadfast.io/local-volume"]),
    );
}

#[test]
fn a_node_that_is_gone_is_chosen_again() {
    let mut model = Model::new();
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "gone"}}});
    model.put(CLAIM, "c", of_class("standard"));
    model.put(CLAIM, "c", chosen);
    model.settle();
    assert_eq!(
        model.field(CLAIM, "c", "/metadata/annotations/volume.kubernetes.io~1selected-node"),
        Value::Null
    );
    assert!(model.told[0].ends_with("node \"gone\" not found"));
}

#[test]
fn the_newest_default_class_is_given_to_claims_that_name_none() {
    let mut model = Model::new();
    model.classes[1] = {
        let mut class = StorageClass::clone(&model.classes[1]);
        class.metadata.annotations =
            Some([("storageclass.kubernetes.io/is-default-class".into(), "true".into())].into());
        Arc::new(class)
    };
    model.put(CLAIM, "c", json!({}));
    model.settle();
    assert_eq!(model.field(CLAIM, "c", "/spec/storageClassName"), "now");
    assert_eq!(model.field(CLAIM, "c", "/status/phase"), "Bound");
}

#[test]
fn a_crash_between_any_two_writes_is_made_good() {
    for limit in 0..4 {
        let mut model = Model::new();
        model.put(CLAIM, "c", of_class("now"));
        model.carry_out(&model.plan_claim("c"), limit);
        model.settle();
        assert_eq!(model.names(VOLUME).len(), 1, "after {limit} writes");
        assert_eq!(
            model.field(CLAIM, "c", "/status/phase"),
            "Bound",
            "after {limit} writes"
        );
    }
}

#[test]
fn a_claim_that_asks_for_a_certain_volume_gets_that_or_hears_why_not() {
    let mut model = Model::new();
    model.put(VOLUME, "v", of_class("hand"));
    model.put(
        CLAIM,
        "c",
        json!({"spec": {"storageClassName": "hand", "volumeName": "v"}}),
    );
    model.put(
        CLAIM,
        "d",
        json!({"spec": {"storageClassName": "hand", "volumeName": "v"}}),
    );
    model.settle();
    assert_eq!(model.field(CLAIM, "c", "/status/phase"), "Bound");
    assert_eq!(model.field(CLAIM, "d", "/status/phase"), "Pending");
    assert_eq!(
        model.told.last().unwrap(),
        "FailedBinding volume \"v\" already bound to a different claim."
    );
    model.put(
        VOLUME,
        "w",
        json!({"spec": {"storageClassName": "hand", "capacity": {"storage": "1Mi"}}}),
    );
    model.put(
        CLAIM,
        "e",
        json!({"spec": {"storageClassName": "hand", "volumeName": "w"}}),
    );
    model.settle();
    assert_eq!(
        model.told.last().unwrap(),
        "VolumeMismatch Cannot bind to requested volume \"w\": requested PV is too small"
    );
}

#[test]
fn a_bound_claim_without_its_volume_is_lost() {
    let mut model = Model::new();
    model.put(CLAIM, "c", of_class("now"));
    model.settle();
    model.objects.retain(|(kind, _), _| kind != VOLUME);
    model.settle();
    assert_eq!(model.field(CLAIM, "c", "/status/phase"), "Lost");
    assert!(
        model
            .told
            .last()
            .unwrap()
            .starts_with("ClaimLost Bound claim has lost reference to PersistentVolume.")
    );
}

#[test]
fn a_volume_that_nobody_can_reclaim_fails_and_a_retained_one_stays() {
    let check = |policy: &str, phase: &str| {
        let mut model = Model::new();
        model.put(
            VOLUME,
            "v",
            json!({"spec": {"storageClassName": "hand", "persistentVolumeReclaimPolicy": policy}}),
        );
        model.put(CLAIM, "c", of_class("hand"));
        model.settle();
        assert_eq!(model.field(VOLUME, "v", "/status/phase"), "Bound");
        model.objects.remove(&(CLAIM.to_owned(), "c".to_owned()));
        model.settle();
        assert_eq!(model.field(VOLUME, "v", "/status/phase"), phase);
    };
    check("Retain", "Released");
    check("Delete", "Failed");
    check("Recycle", "Failed");
}

#[test]
fn claims_and_volumes_are_kept_while_they_are_used() {
    let claim = |more: Value| {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection", "other"]}});
        merge(&mut claim, &more);
        Some(Arc::new(
            serde_json::from_value::<PersistentVolumeClaim>(claim).unwrap(),
        ))
    };
    let pod = |more: Value| {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"}});
        merge(&mut pod, &more);
        Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
    };
    let check = |claim, pods, expected: Option<Value>| {
        let plan = plan_claim_protection(&ObservedUse { claim, pods });
        let patch = plan.actions().next().map(|action| match &action.write {
            Write::Patch { patch, .. } => patch["metadata"]["finalizers"].clone(),
            _ => panic!("only patches"),
        });
        assert_eq!(patch, expected);
    };
    check(claim(json!({})), vec![], Some(json!(["other"])));
    check(claim(json!({})), vec![pod(json!({}))], None);
    check(
        claim(json!({})),
        vec![pod(json!({"status": {"phase": "Failed"}}))],
        Some(json!(["other"])),
    );
    check(
        claim(json!({})),
        vec![pod(json!({"spec": {"nodeName": null}}))],
        Some(json!(["other"])),
    );
    check(claim(json!({"metadata": {"deletionTimestamp": null}})), vec![], None);
    let bare = json!({"metadata": {"deletionTimestamp": null, "finalizers": null}});
    check(claim(bare), vec![], Some(json!(["kubernetes.io/pvc-protection"])));

    let volume = |phase: &str| -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "v", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pv-protection"]}, "spec": {"claimRef": {"name": "c"}}, "status": {"phase": phase}})).unwrap()
    };
    assert!(plan_volume_protection(Some(&volume("Bound"))).is_quiet());
    assert!(!plan_volume_protection(Some(&volume("Released"))).is_quiet());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Plans made from old pictures, broken off anywhere, in any order: no volume ever serves two claims, and in the
    /// end nothing is left to do.
    #[test]
    fn no_volume_serves_two_claims(history in prop::collection::vec((0_u8..5, 0_u8..5, 0_usize..5, any::<bool>()), 1..60)) {
        let mut model = Model::new();
        let mut old = model.clone();
        for (what, which, limit, remember) in history {
            let (claim, volume) = (format!("c{which}"), format!("v{which}"));
            match what {
                0 => model.put(CLAIM, &claim, of_class("hand")),
                1 if !model.names(VOLUME).contains(&volume) => model.put(VOLUME, &volume, of_class("hand")),
                2 => { let plan = old.plan_claim(&claim); model.carry_out(&plan, limit); }
                3 => { let plan = old.plan_volume(&volume); model.carry_out(&plan, limit); }
                _ => {
                    let plan = model.plan_claim(&claim);
                    model.carry_out(&plan, limit);
                }
            }
            if remember {
                old = model.clone();
            }
            let taken: Vec<Value> = model.names(CLAIM).iter().map(|name| model.field(CLAIM, name, "/spec/volumeName"))
                .filter(|name| !name.is_null()).collect();
            for (index, name) in taken.iter().enumerate() {
                prop_assert!(!taken[..index].contains(name), "{} serves two claims", name);
            }
        }
        model.settle();
        let bound = |kind: &str| model.names(kind).iter().filter(|name| model.field(kind, name, "/status/phase") == "Bound").count();
        prop_assert_eq!(bound(CLAIM), bound(VOLUME));
        prop_assert_eq!(bound(CLAIM), model.names(CLAIM).len().min(model.names(VOLUME).len()));
    }
}
