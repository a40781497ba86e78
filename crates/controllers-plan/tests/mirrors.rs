//! Endpoints of Services without selector, mirrored into EndpointSlices.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Endpoints, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use controllers_plan::Write;
use controllers_plan::endpoints::mirror::{self, Observed};
use json_patch::merge;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The server as far as this plan needs one.
struct Model {
    service: Option<Value>,
    endpoints: Option<Value>,
    slices: BTreeMap<String, Value>,
    names: u32,
}

impl Model {
    fn new(subsets: &Value) -> Self {
        Self {
            service: Some(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": {}})),
            endpoints: Some(
                json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e", "labels": {"team": "a"}, "annotations": {
                "note": "x", "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}}, "subsets": subsets}),
            ),
            slices: BTreeMap::new(),
            names: 0,
        }
    }

    /// Carries out one plan, after which nothing must be left to do; how many writes it had.
    fn settle(&mut self) -> usize {
        let plan = mirror::plan(&self.observed());
        let writes: Vec<Write> = plan.actions().map(|action| action.write.clone()).collect();
        for write in &writes {
            self.write(write);
        }
        assert_eq!(mirror::plan(&self.observed()).actions().count(), 0, "settled");
        writes.len()
    }

    fn observed(&self) -> Observed {
        let slices = self.slices.values().cloned();
        Observed {
            service: self
                .service
                .clone()
                .map(|one| Arc::new(serde_json::from_value::<Service>(one).unwrap())),
            endpoints: self
                .endpoints
                .clone()
                .map(|one| Arc::new(serde_json::from_value::<Endpoints>(one).unwrap())),
            slices: slices
                .map(|one| Arc::new(serde_json::from_value::<EndpointSlice>(one).unwrap()))
                .filter(|slice| mirror::endpoints_of(slice) == Some("db"))
                .collect(),
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Create(object) => {
                self.names += 1;
                let name = format!("db-{}", self.names);
                let mut body = object.body.clone();
                assert_eq!(body["metadata"]["generateName"], "db-");
                body["metadata"]["name"] = json!(name);
                self.slices.insert(name, body);
            }
            Write::Patch { target, patch, .. } => merge(self.slices.get_mut(&target.key.name).unwrap(), patch),
            Write::Delete { target, .. } => assert!(self.slices.remove(&target.key.name).is_some()),
            Write::Replace { .. } | Write::Kill { .. } => panic!("not for slices"),
        }
    }

    fn only_slice(&self) -> &Value {
        assert_eq!(self.slices.len(), 1, "{:?}", self.slices);
        self.slices.values().next().unwrap()
    }
}

#[test]
fn a_slice_says_what_the_endpoints_say() {
    let mut model = Model::new(&json!([{"ports": [{"port": 80}], "addresses": [
        {"ip": "10.1.2.3", "hostname": "a", "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}}],
        "notReadyAddresses": [{"ip": "10.1.2.2"}]}]));
    assert_eq!(model.settle(), 1);
    let slice = model.only_slice();
    let owner = json!([{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "e",
        "controller": true, "blockOwnerDeletion": true}]);
    assert_eq!(slice["metadata"]["ownerReferences"], owner);
    let labels = json!({"team": "a", "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"});
    assert_eq!(slice["metadata"]["labels"], labels);
    assert_eq!(slice["metadata"]["annotations"], json!({"note": "x"}));
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    let endpoints = json!([
        {"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "a", "nodeName": "n",
            "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}},
        {"addresses": ["10.1.2.2"], "conditions": {"ready": false}}]);
    assert_eq!(slice["endpoints"], endpoints);
}

#[test]
fn slices_follow_their_endpoints_until_these_go() {
    let subsets = |ip: &str| json!([{"ports": [{"port": 80}], "addresses": [{"ip": ip}]}]);
    let mut model = Model::new(&subsets("10.1.2.3"));
    model.settle();
    model.endpoints.as_mut().unwrap()["subsets"] = subsets("10.2.3.4");
    model.endpoints.as_mut().unwrap()["metadata"]["labels"] = json!({"team": "b"});
    assert_eq!(model.settle(), 1);
    assert_eq!(model.only_slice()["endpoints"][0]["addresses"], json!(["10.2.3.4"]));
    assert_eq!(model.only_slice()["metadata"]["labels"]["team"], "b");
    model.endpoints = None;
    assert_eq!(model.settle(), 1);
    assert!(model.slices.is_empty());
}

#[test]
fn there_is_a_slice_for_each_family_and_set_of_ports() {
    let mut model = Model::new(&json!([
        {"ports": [{"name": "a", "port": 1}], "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "fd00::1"}]},
        {"ports": [{"name": "b", "port": 2}], "addresses": [{"ip": "10.0.0.1"}]}]));
    model.settle();
    let mut found: Vec<_> = model
        .slices
        .values()
        .map(|slice| {
            let ports = slice["ports"].as_array().unwrap().iter();
            let ports: Vec<_> = ports.map(|port| port["port"].as_i64().unwrap()).collect();
            (
                slice["addressType"].clone(),
                ports,
                slice["endpoints"][0]["addresses"][0].clone(),
            )
        })
        .map(|(family, ports, address)| format!("{family} {ports:?} {address}"))
        .collect();
    found.sort();
    let expected = [
        r#""IPv4" [1, 2] "10.0.0.1""#,
        r#""IPv4" [1] "10.0.0.2""#,
        r#""IPv6" [1] "fd00::1""#,
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_to_be_mirrored_is_not() {
    let check = |service: Value, endpoints: Value, expected: usize| {
        let mut model = Model::new(&json!([{"addresses": [{"ip": "10.0.0.1"}]}]));
        merge(model.service.as_mut().unwrap(), &service);
        merge(model.endpoints.as_mut().unwrap(), &endpoints);
        assert_eq!(model.settle(), expected, "{service} {endpoints}");
        model.service = None;
        model.settle();
        assert!(model.slices.is_empty());
    };
    check(json!({}), json!({}), 1);
    check(json!({"spec": {"selector": {"a": "b"}}}), json!({}), 0);
    check(
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({}),
        0,
    );
    let label = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    check(json!({}), label, 0);
    let leader = json!({"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}});
    check(json!({}), leader, 0);
    check(json!({}), json!({"subsets": null}), 0);
}
