//! The executor against the real API server.

use std::sync::Arc;

use api::k8s::api::core::v1::{ConfigMap, Event as CoreEvent};
use apiserver::{ApiServer, User, in_process};
use controllers_plan::{Announcement, Key, Kind, Object};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::*;
use crate::record;

/// A server, and an executor that writes to it.
async fn executor() -> (ApiServer, Executor, record::Writer) {
    let store = Arc::new(store::memory::MemoryStore::new());
    let server = ApiServer::new(store, apiserver::Config::default())
        .await
        .expect("an empty store is fine");
    let client = Client::new(
        in_process(server.router(), User::new("test", ["system:masters"])),
        "default",
    );
    let (recorder, writer) = record::channel(client.clone());
    (server, Executor { client, recorder }, writer)
}

fn key(name: &str) -> Key {
    Key::new(Kind::of::<ConfigMap>(), "default", name)
}

fn create(name: &str) -> Action {
    let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "default" } });
    let notice = |reason| {
        Some(Notice {
            reason,
            message: format!("Create {name}"),
        })
    };
    let about = Target {
        key: key("about"),
        uid: "uid".to_owned(),
        resource_version: String::new(),
    };
    Action::create(Object { key: key(name), body }).announced(Announcement {
        about,
        done: notice("SuccessfulCreate"),
        failed: notice("FailedCreate"),
    })
}

async fn names(executor: &Executor) -> Vec<String> {
    let api = Api::<ConfigMap>::default_namespaced(executor.client.clone());
    let list = api.list(&ListParams::default()).await.expect("listed");
    list.into_iter()
        .filter_map(|object| object.metadata.name)
        .filter(|name| name != "kube-root-ca.crt")
        .collect()
}

async fn seen(executor: &Executor, name: &str) -> Target {
    let api = Api::<ConfigMap>::default_namespaced(executor.client.clone());
    Target::of(&api.get(name).await.expect("there"))
}

async fn run(executor: &Executor, steps: Vec<Step>) -> Outcome {
    executor
        .carry_out(
            "test",
            &Plan {
                steps,
                ..Plan::default()
            },
        )
        .await
}

#[tokio::test]
async fn steps_go_in_order_and_end_with_the_first_failure() {
    let (_server, executor, _writer) = executor().await;
    let steps = ["a", "a", "b"].map(|name| Step::One(create(name)));
    let outcome = run(&executor, steps.to_vec()).await;
    assert!(outcome.result.is_err_and(|refused| refused.is_outdated()));
    assert_eq!(outcome.writes.len(), 1);
    assert_eq!(names(&executor).await, ["a"]);
}

#[tokio::test]
async fn chains_beside_each_other_do_not_suffer_from_one_that_fails() {
    let (_server, executor, _writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let chains = vec![
        vec![create("a"), create("never")],
        vec![create("b")],
        vec![create("c"), create("d")],
    ];
    let outcome = run(&executor, vec![Step::Together(chains), Step::One(create("later"))]).await;
    assert!(outcome.result.is_err());
    assert_eq!(names(&executor).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn what_fails_for_everybody_is_tried_few_times() {
    let (_server, executor, writer) = executor().await;
    let nowhere = |n: usize| {
        let mut action = create(&format!("x{n}"));
        if let controllers_plan::Write::Create(object) = &mut action.write {
            object.key.namespace = "nowhere".to_owned();
            object.body["metadata"]["namespace"] = json!("nowhere");
        }
        vec![action]
    };
    let outcome = run(&executor, vec![Step::Together((0..1000).map(nowhere).collect())]).await;
    assert!(outcome.result.is_err() && outcome.writes.is_empty());
    let events = Api::<CoreEvent>::default_namespaced(executor.client.clone());
    drop(executor);
    writer.run().await;
    let tried = events.list(&ListParams::default()).await.expect("listed").items.len();
    assert_eq!(tried, FAILURES_IN_A_ROW_MAX);
}

#[tokio::test]
async fn an_object_that_has_changed_is_not_touched() {
    let (_server, executor, _writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let old = seen(&executor, "a").await;
    let patch = |value: &str| json!({ "data": { "key": value } });
    let first = run(&executor, vec![Step::One(Action::patch(old.clone(), patch("one")))]).await;
    assert!(first.result.is_ok());
    let stale = run(&executor, vec![Step::One(Action::patch(old.clone(), patch("two")))]).await;
    assert!(stale.result.is_err_and(|refused| refused.is_outdated()));
    let stale = run(&executor, vec![Step::One(Action::delete(old))]).await;
    assert!(stale.result.is_err_and(|refused| refused.is_outdated()));
    let other = Target {
        uid: "other".to_owned(),
        ..seen(&executor, "a").await
    };
    assert!(
        run(&executor, vec![Step::One(Action::delete(other))])
            .await
            .result
            .is_err()
    );
    assert_eq!(names(&executor).await, ["a"]);
}

#[tokio::test]
async fn an_object_that_is_gone_counts_as_deleted() {
    let (_server, executor, _writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let target = seen(&executor, "a").await;
    assert!(
        run(&executor, vec![Step::One(Action::delete(target.clone()))])
            .await
            .result
            .is_ok()
    );
    assert!(
        run(&executor, vec![Step::One(Action::delete(target))])
            .await
            .result
            .is_ok()
    );
}

#[tokio::test]
async fn guards_are_asked_of_the_server() {
    let (_server, executor, _writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let there = seen(&executor, "a").await;
    let other = Target {
        uid: "other".to_owned(),
        ..there.clone()
    };
    let none_left = |kind| Guard::NoneLeft {
        kinds: vec![kind],
        namespace: "default".to_owned(),
    };
    let table = [
        (Guard::Alive(there.clone()), true),
        (Guard::Alive(other.clone()), false),
        (Guard::Gone(there), false),
        (Guard::Gone(other), true),
        (none_left(Kind::of::<ConfigMap>()), false),
        (none_left(Kind::of::<api::k8s::api::core::v1::Pod>()), true),
    ];
    for (number, (guard, holds)) in table.into_iter().enumerate() {
        let action = create(&format!("guarded-{number}")).guarded(guard.clone());
        let outcome = run(&executor, vec![Step::One(action)]).await;
        assert_eq!(outcome.result.is_ok(), holds, "{guard:?}");
    }
}

#[tokio::test]
async fn outcomes_are_told_and_repetition_is_counted() {
    let (_server, executor, writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    // AlreadyExists is no news (A5.8).
    run(&executor, vec![Step::One(create("a"))]).await;
    let target = seen(&executor, "a").await;
    run(&executor, vec![Step::One(Action::delete(target))]).await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let mut invalid = create("a");
    if let controllers_plan::Write::Create(object) = &mut invalid.write {
        object.body["metadata"]["name"] = json!("Not A Name");
    }
    run(&executor, vec![Step::One(invalid)]).await;
    let events = Api::<CoreEvent>::default_namespaced(executor.client.clone());
    drop(executor);
    writer.run().await;
    let told = events.list(&ListParams::default()).await.expect("listed");
    let mut told: Vec<_> = told
        .into_iter()
        .map(|event| (event.reason.unwrap(), event.count.unwrap(), event.message.unwrap()))
        .collect();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1), ("FailedCreate", 1));
    assert!(
        told[0]
            .2
            .starts_with("Create a error: ConfigMap \"Not A Name\" is invalid"),
        "{}",
        told[0].2
    );
    assert_eq!(told[1], ("SuccessfulCreate".to_owned(), 2, "Create a".to_owned()));
}

#[tokio::test]
async fn a8_8_the_status_is_written_although_a_step_failed() {
    let (_server, executor, _writer) = executor().await;
    run(&executor, vec![Step::One(create("a"))]).await;
    let plan = Plan {
        steps: vec![Step::One(create("a")), Step::One(create("never"))],
        status: Some(create("the-status")),
        ..Plan::default()
    };
    let outcome = executor.carry_out("test", &plan).await;
    assert!(outcome.result.is_err());
    assert_eq!(names(&executor).await, ["a", "the-status"]);
}
