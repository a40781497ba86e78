//! Real clients: kube-rs without a socket, and over TLS with certificates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use ::api::k8s::api::core::v1::{ConfigMap, Pod};
use api::Api;
use apiserver::Config;
use futures::{StreamExt, TryStreamExt};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, Config as ClientConfig};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use test_authority::Authority;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    ConfigMap {
        metadata,
        data: Some([("k".to_owned(), "v".to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// What every client must be able to do.
async fn walk(client: Client) {
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client, "default");
    let made = maps.create(&PostParams::default(), &map("a")).await.unwrap();
    assert!(made.metadata.uid.is_some());
    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "y"}});
    let applied = maps
        .patch("a", &PatchParams::apply("me"), &Patch::Apply(&patch))
        .await
        .unwrap();
    assert_eq!(applied.data.unwrap().len(), 2);
    assert_eq!(maps.list(&ListParams::default().limit(1)).await.unwrap().items.len(), 1);
    let mut events = watcher(maps.clone(), watcher::Config::default().streaming_lists()).boxed();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        match event {
            watcher::Event::InitApply(map) => seen.push(map.metadata.name.unwrap()),
            watcher::Event::InitDone => {
                maps.create(&PostParams::default(), &map("b")).await.unwrap();
            }
            watcher::Event::Apply(map) => {
                seen.push(map.metadata.name.unwrap());
                break;
            }
            watcher::Event::Init | watcher::Event::Delete(_) => {}
        }
    }
    assert_eq!(seen, ["a", "b"]);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = maps.get("a").await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.is_not_found()));
}

#[tokio::test]
async fn kube_works_without_a_socket() {
    let api = Api::new().await;
    walk(Client::new(api.service, "default")).await;
}

/// A server on loopback.
struct Served {
    api: Api,
    authority: Authority,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new().unwrap();
        let api = Api::with(Config {
            advertise: address,
            ..Config::default()
        })
        .await;
        let shutdown = CancellationToken::new();
        let tls = Arc::new(authority.server(ip).unwrap());
        let task = tokio::spawn(apiserver::serve(listener, tls, api.router(), shutdown.clone()));
        Self {
            api,
            authority,
            address,
            shutdown,
            task,
        }
    }

    async fn client(&self, user: &str, group: &str) -> Client {
        let text = self.authority.kubeconfig(self.address, user, group).unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = ClientConfig::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_works_over_tls() {
    let served = Served::start().await;
    walk(served.client("admin", "system:masters").await).await;
    served.shutdown.cancel();
    served.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_say_who_one_is() {
    let served = Served::start().await;
    let node = served.client("system:node:vm", "system:nodes").await;
    let pods: kube::Api<Pod> = kube::Api::all(node.clone());
    let own = ListParams::default().fields("spec.nodeName=vm");
    assert!(pods.list(&own).await.unwrap().items.is_empty());
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(node, "default");
    let refused = maps.create(&PostParams::default(), &map("a")).await.unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}")
    };
    assert!(
        status
            .message
            .contains("User \"system:node:vm\" cannot create resource \"configmaps\""),
        "{}",
        status.message
    );
    drop(served.api);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_ends_its_watches() {
    let served = Served::start().await;
    let client = served.client("admin", "system:masters").await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client, "default");
    let mut events = maps
        .watch(&kube::api::WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    assert!(events.try_next().await.unwrap().is_some());
    served.shutdown.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(4), served.task).await;
    stopped.expect("the server waits for nobody").unwrap().unwrap();
    // What was sent before is still read; then the watch has ended, not failed.
    while events.try_next().await.unwrap().is_some() {}
}
