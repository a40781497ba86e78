//! Endpoints: single decisions as tables, and convergence for any history of pods.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Endpoints, Node, Pod, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use controllers_plan::endpoints::{legacy, selects, slices};
use controllers_plan::{Plan, Write};
use jiff::Timestamp;
use json_patch::merge;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The server as far as these plans need one.
#[derive(Default)]
struct Model {
    service: Option<Arc<Service>>,
    pods: BTreeMap<String, Value>,
    slices: BTreeMap<String, Value>,
    endpoints: Option<Value>,
    names: u32,
}

impl Model {
    fn with_service(more: Value) -> Self {
        let mut service = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": {
            "selector": {"app": "db"}, "clusterIP": "None", "ports": [{"name": "sql", "port": 3306}]}});
        merge(&mut service, &more);
        Self {
            service: Some(Arc::new(serde_json::from_value(service).unwrap())),
            ..Self::default()
        }
    }

    fn set_pod(&mut self, name: &str, more: Value) {
        let pod = self.pods.entry(name.to_owned()).or_insert_with(|| {
            json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "db"}},
                "spec": {"nodeName": "n1", "hostname": name, "subdomain": "db", "containers": []},
                "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.0.{name}")}],
                    "conditions": [{"type": "Ready", "status": "True"}]}})
        });
        merge(pod, &more);
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        let pods = self
            .pods
            .values()
            .map(|pod| Arc::new(serde_json::from_value::<Pod>(pod.clone()).unwrap()));
        pods.filter(|pod| self.service.as_ref().is_some_and(|service| selects(service, pod)))
            .collect()
    }

    fn slices(&self) -> Vec<Arc<EndpointSlice>> {
        self.slices
            .values()
            .map(|slice| Arc::new(serde_json::from_value(slice.clone()).unwrap()))
            .collect()
    }

    fn plan(&self) -> Plan {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).unwrap();
        slices::plan(&slices::Observed {
            service: self.service.clone(),
            pods: self.pods(),
            nodes: BTreeMap::from([("n1".to_owned(), Arc::new(node))]),
            slices: self.slices(),
        })
    }

    fn plan_legacy(&self, now: Timestamp) -> Plan {
        let endpoints = self
            .endpoints
            .clone()
            .map(|endpoints| Arc::new(serde_json::from_value::<Endpoints>(endpoints).unwrap()));
        legacy::plan(
            &legacy::Observed {
                service: self.service.clone(),
                pods: self.pods(),
                endpoints,
            },
            now,
        )
    }

    fn carry_out(&mut self, plan: &Plan) -> usize {
        plan.actions().map(|action| self.write(&action.write)).count()
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Create(object) if object.key.kind.kind == "Endpoints" => self.endpoints = Some(object.body.clone()),
            Write::Create(object) => {
                self.names += 1;
                let name = format!("db-{}", self.names);
                let mut body = object.body.clone();
                assert_eq!(body["metadata"]["generateName"], "db-");
                body["metadata"]["name"] = json!(name);
                self.slices.insert(name, body);
            }
            Write::Patch { target, patch, .. } if target.key.kind.kind == "Endpoints" => {
                merge(self.endpoints.as_mut().unwrap(), patch);
            }
            Write::Patch { target, patch, .. } => merge(self.slices.get_mut(&target.key.name).unwrap(), patch),
            Write::Delete { target, .. } if target.key.kind.kind == "Endpoints" => self.endpoints = None,
            Write::Delete { target, .. } => assert!(self.slices.remove(&target.key.name).is_some()),
            Write::Replace { .. } | Write::Kill { .. } => panic!("not for endpoints"),
        }
    }

    fn settle(&mut self) -> usize {
        let plan = self.plan();
        let writes = self.carry_out(&plan);
        assert_eq!(self.plan().actions().count(), 0, "settled after one plan");
        writes
    }

    /// uid and conditions of all endpoints in all slices.
    fn endpoints(&self) -> Vec<(String, Value)> {
        let all = self
            .slices
            .values()
            .flat_map(|slice| slice["endpoints"].as_array().unwrap());
        all.map(|one| {
            (
                one["targetRef"]["name"].as_str().unwrap().to_owned(),
                one["conditions"].clone(),
            )
        })
        .collect()
    }
}

fn conditions(ready: bool, serving: bool, terminating: bool) -> Value {
    json!({"ready": ready, "serving": serving, "terminating": terminating})
}

const NOT_READY: fn() -> Value = || json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
const TERMINATING: fn() -> Value = || json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});

#[test]
fn a_pod_is_in_a_slice_as_its_state_says() {
    let check = |pod: Value, service: Value, expected: Option<Value>| {
        let mut model = Model::with_service(service);
        model.set_pod("1", pod);
        model.settle();
        assert_eq!(
            model.endpoints().first().map(|(_, conditions)| conditions.clone()),
            expected
        );
    };
    let publish = || json!({"spec": {"publishNotReadyAddresses": true}});
    check(json!({}), json!({}), Some(conditions(true, true, false)));
    check(NOT_READY(), json!({}), Some(conditions(false, false, false)));
    check(NOT_READY(), publish(), Some(conditions(true, false, false)));
    check(TERMINATING(), json!({}), Some(conditions(false, true, true)));
    check(TERMINATING(), publish(), Some(conditions(true, true, true)));
    check(json!({"status": {"phase": "Failed"}}), json!({}), None);
    check(json!({"status": {"podIPs": []}}), json!({}), None);
    check(json!({"metadata": {"labels": {"app": "other"}}}), json!({}), None);
    check(json!({"spec": {"nodeName": "gone"}}), json!({}), None);
}

#[test]
fn a_slice_says_whose_it_is_and_names_its_pods() {
    let mut model = Model::with_service(json!({"metadata": {"labels": {"team": "a"}}}));
    model.set_pod("1", json!({}));
    model.set_pod("2", json!({"spec": {"subdomain": "other"}}));
    assert_eq!(model.settle(), 1);
    let slice = model.slices.values().next().unwrap();
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "a", "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io", "service.kubernetes.io/headless": ""})
    );
    assert_eq!(
        slice["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Service", "name": "db", "uid": "s",
        "controller": true, "blockOwnerDeletion": true}])
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "sql", "port": 3306, "protocol": "TCP"}])
    );
    assert_eq!(
        slice["endpoints"][0],
        json!({"addresses": ["10.0.0.1"], "conditions": conditions(true, true, false),
        "hostname": "1", "nodeName": "n1", "targetRef": {"kind": "Pod", "namespace": "ns", "name": "1", "uid": "uid-1"}})
    );
    assert_eq!(slice["endpoints"][1].get("hostname"), None);
}

#[test]
fn one_change_is_one_write() {
    let mut model = Model::with_service(json!({}));
    assert_eq!(model.settle(), 1, "an empty slice says that there is none");
    for index in 0..100 {
        model.set_pod(&format!("{index:03}"), json!({}));
    }
    assert_eq!(model.settle(), 2, "a full slice for the empty one");
    model.set_pod("100", json!({}));
    assert_eq!(model.settle(), 1);
    model.set_pod("050", NOT_READY());
    assert_eq!(model.settle(), 1);
    model.pods.remove("100");
    assert_eq!(model.settle(), 1);
    model.pods.clear();
    assert_eq!(model.settle(), 2);
    assert_eq!(model.slices.len(), 1);
    model.service = None;
    assert_eq!(model.settle(), 1);
}

#[test]
fn named_target_ports_are_resolved_pod_by_pod() {
    let mut model =
        Model::with_service(json!({"spec": {"ports": [{"name": "sql", "port": 3306, "targetPort": "db"}]}}));
    let container =
        |port: u16| json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "db", "containerPort": port}]}]}});
    model.set_pod("1", container(1));
    model.set_pod("2", container(2));
    model.set_pod("3", container(1));
    model.settle();
    let ports: Vec<_> = model
        .slices
        .values()
        .map(|slice| slice["ports"][0]["port"].clone())
        .collect();
    assert_eq!(ports, [1, 2]);
    let now = Timestamp::UNIX_EPOCH;
    model.carry_out(&model.plan_legacy(now));
    let subsets = &model.endpoints.as_ref().unwrap()["subsets"];
    assert_eq!(subsets[0]["addresses"].as_array().unwrap().len(), 2);
    assert_eq!(
        subsets[1]["ports"],
        json!([{"name": "sql", "port": 2, "protocol": "TCP"}])
    );
}

#[test]
fn services_without_selector_are_left_alone() {
    let mut model = Model::with_service(json!({"spec": {"selector": null}}));
    model.set_pod("1", json!({}));
    assert_eq!(model.settle(), 0);
    assert!(model.plan_legacy(Timestamp::UNIX_EPOCH).is_quiet());
}

#[test]
fn dual_stack_services_have_slices_of_both_families() {
    let mut model = Model::with_service(json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}}));
    model.set_pod(
        "1",
        json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}),
    );
    model.settle();
    let families: BTreeSet<_> = model
        .slices
        .values()
        .map(|slice| slice["addressType"].as_str().unwrap())
        .collect();
    assert_eq!(families, BTreeSet::from(["IPv4", "IPv6"]));
    model.carry_out(&model.plan_legacy(Timestamp::UNIX_EPOCH));
    assert_eq!(
        model.endpoints.as_ref().unwrap()["subsets"][0]["addresses"][0]["ip"],
        "fd00::1"
    );
}

#[test]
fn the_older_endpoints_sort_the_ready_from_the_others_and_rest_between_writes() {
    let mut model = Model::with_service(json!({}));
    let begin = Timestamp::from_second(1_000_000).unwrap();
    for index in 0..200 {
        model.set_pod(&format!("{index:03}"), json!({}));
    }
    model.set_pod("000", NOT_READY());
    model.set_pod("001", TERMINATING());
    assert_eq!(model.carry_out(&model.plan_legacy(begin)), 1);
    let endpoints = model.endpoints.clone().unwrap();
    assert_eq!(
        endpoints["metadata"]["labels"],
        json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller",
        "service.kubernetes.io/headless": ""})
    );
    assert_eq!(
        endpoints["subsets"][0]["notReadyAddresses"].as_array().unwrap().len(),
        1
    );
    assert_eq!(endpoints["subsets"][0]["addresses"].as_array().unwrap().len(), 198);
    assert!(model.plan_legacy(begin).is_quiet());

    model.set_pod(
        "000",
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let plan = model.plan_legacy(begin);
    assert!(plan.is_quiet() && !plan.because.is_empty());
    let later = plan.again_at.unwrap();
    assert!(later > begin);
    assert_eq!(model.carry_out(&model.plan_legacy(later)), 1);
    model.service = None;
    assert_eq!(model.carry_out(&model.plan_legacy(later)), 1);
    assert_eq!(model.endpoints, None);
}

/// A selector may match any number of pods: no slice is too full, one pod's change is a write for each family, and the older
/// Endpoints say that they do not tell of all.
#[test]
fn more_pods_than_a_slice_holds_are_spread() {
    const PODS: usize = 1200;
    let mut model = Model::with_service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
    for index in 0..PODS {
        let (four, six) = (
            format!("10.0.{}.{}", index / 200, index % 200),
            format!("fd00::{index:x}"),
        );
        model.set_pod(
            &format!("{index:04}"),
            json!({"status": {"podIPs": [{"ip": four}, {"ip": six}]}}),
        );
    }
    assert_eq!(model.settle(), 2 * PODS / 100);
    assert_eq!(model.endpoints().len(), 2 * PODS);
    let sizes = model
        .slices
        .values()
        .map(|slice| slice["endpoints"].as_array().unwrap().len());
    assert!(sizes.into_iter().all(|size| size == 100));
    model.set_pod("0777", NOT_READY());
    assert_eq!(model.settle(), 2);
    assert_eq!(model.carry_out(&model.plan_legacy(Timestamp::UNIX_EPOCH)), 1);
    let endpoints = model.endpoints.as_ref().unwrap();
    let annotations = &endpoints["metadata"]["annotations"];
    assert_eq!(annotations["endpoints.kubernetes.io/over-capacity"], "truncated");
    let subsets = endpoints["subsets"].as_array().unwrap().iter();
    let listed = subsets.map(|subset| subset["addresses"].as_array().map_or(0, Vec::len));
    assert_eq!(listed.sum::<usize>(), 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever pods do, one plan later each pod that should be there is there exactly once, no slice is too full, and
    /// there is nothing more to do.
    #[test]
    fn slices_converge(history in prop::collection::vec((0_u16..250, 0_u8..4, any::<bool>()), 1..400)) {
        let mut model = Model::with_service(json!({}));
        for (index, (pod, what, settle)) in history.iter().enumerate() {
            let name = format!("{pod:03}");
            match what {
                0 => { model.pods.remove(&name); }
                1 => model.set_pod(&name, NOT_READY()),
                2 => model.set_pod(&name, TERMINATING()),
                _ => model.set_pod(&name, json!({})),
            }
            if *settle && index % 40 == 0 || index + 1 == history.len() {
                model.settle();
                let names: Vec<String> = model.endpoints().into_iter().map(|(name, _)| name).collect();
                let unique: BTreeSet<String> = names.iter().cloned().collect();
                prop_assert_eq!(unique.len(), names.len());
                prop_assert_eq!(unique, model.pods.keys().cloned().collect::<BTreeSet<_>>());
                prop_assert!(model.slices.values().all(|slice| slice["endpoints"].as_array().unwrap().len() <= 100));
            }
        }
    }
}
