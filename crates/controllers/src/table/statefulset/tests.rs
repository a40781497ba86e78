//! Contract A5: what wakes a set.

use serde_json::{Value, json};

use super::*;
use crate::caches::Watchlist;

/// The row's caches, holding a set `web` (uid `s`).
fn caches() -> Caches {
    let mut watchlist = Watchlist::default();
    for watch in row(&Config::default()).watches {
        (watch.enlist)(&mut watchlist, 0);
    }
    let caches = watchlist.caches;
    caches.of::<ServedSet>().apply(parse(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "s", "resourceVersion": "1" },
        "spec": {
            "serviceName": "", "selector": { "matchLabels": { "app": "web" } }, "template": {},
            "volumeClaimTemplates": [{ "metadata": { "name": "www" } }],
        },
    })));
    caches
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, version: &str, owner: Option<&str>) -> Pod {
    let owner = owner.map(|name| {
        json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": "u", "controller": true }])
    });
    parse(json!({ "metadata": {
        "name": name, "namespace": "default", "uid": name, "resourceVersion": version, "ownerReferences": owner,
    } }))
}

fn names(keys: Vec<Key>) -> Vec<String> {
    keys.into_iter().map(|key| key.name).collect()
}

/// Whom a change of a pod wakes.
fn woken_by(old: Option<Pod>, new: Option<Pod>) -> Vec<String> {
    let change = Change {
        old: old.map(Arc::new),
        new: new.map(Arc::new),
    };
    names(of_pod(&caches(), &change))
}

#[test]
fn a0_5_nothing_is_watched_that_upstream_s_role_does_not_grant() {
    // Services are read besides, only to warn of one that gives the pods no names.
    let granted = [
        "StatefulSet",
        "Pod",
        "PersistentVolumeClaim",
        "ControllerRevision",
        "Service",
    ];
    assert!(
        row(&Config::default())
            .watches
            .iter()
            .all(|watch| granted.contains(&watch.kind.kind))
    );
}

#[test]
fn a0_6_events_come_from_upstream_s_component() {
    assert_eq!(row(&Config::default()).name, "statefulset-controller");
}

#[test]
fn a5_1_a_set_is_woken_by_its_pods_by_its_orphans_and_by_nothing_that_it_waits_for_not() {
    assert_eq!(woken_by(None, Some(pod("db-0", "1", Some("db")))), ["db"]);
    assert_eq!(woken_by(None, Some(pod("web-0", "1", None))), ["web"]);
    assert!(woken_by(None, Some(pod("other-0", "1", None))).is_empty());
    let claim =
        || parse::<PersistentVolumeClaim>(json!({ "metadata": { "name": "www-web-1", "namespace": "default" } }));
    let made = Change {
        old: None,
        new: Some(Arc::new(claim())),
    };
    assert!(of_claim(&caches(), &made).is_empty());
    let gone = Change {
        old: Some(Arc::new(claim())),
        new: None,
    };
    assert_eq!(
        names(of_claim(&caches(), &gone)),
        ["web"],
        "beyond upstream: its pod may wait for that"
    );
}

#[test]
fn a5_2_a_version_seen_before_is_no_change_and_a_change_of_owner_wakes_both() {
    let caches = caches();
    let pods = caches.of::<Pod>();
    assert!(pods.apply(pod("web-0", "1", Some("web"))).is_some());
    assert!(pods.apply(pod("web-0", "1", Some("web"))).is_none());
    assert_eq!(
        woken_by(
            Some(pod("web-0", "1", Some("web"))),
            Some(pod("web-0", "2", Some("db")))
        ),
        ["db", "web"]
    );
}

#[test]
fn a5_3_a_pod_first_seen_on_its_way_out_wakes_its_set() {
    let mut going = pod("web-0", "1", Some("web"));
    going.metadata.deletion_timestamp = Some(parse(json!("2026-11-22T12:00:00Z")));
    assert_eq!(woken_by(None, Some(going)), ["web"]);
}

#[test]
fn a5_9_a_freed_name_wakes_the_set_that_bears_it_whoever_had_it() {
    assert_eq!(woken_by(Some(pod("web-0", "1", Some("db"))), None), ["db", "web"]);
    assert_eq!(woken_by(Some(pod("web-0", "1", None)), None), ["web"]);
}

#[test]
fn a5_10_plans_wait_for_own_writes_of_sets_pods_claims_and_revisions() {
    let kinds: Vec<_> = row(&Config::default())
        .watches
        .iter()
        .map(|watch| watch.kind.kind)
        .collect();
    assert_eq!(
        kinds[..4],
        ["StatefulSet", "Pod", "PersistentVolumeClaim", "ControllerRevision"]
    );
}
