//! Several servers on one store publish each other. Time is virtual: it runs when everybody waits.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::Endpoints;
use apiserver::{ApiServer, Config, User, in_process};
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;

async fn server(store: &Arc<MemoryStore>, advertise: &str) -> ApiServer {
    let config = Config {
        advertise: advertise.parse().unwrap(),
        ..Config::default()
    };
    ApiServer::new(store.clone(), config).await.unwrap()
}

async fn published(server: &ApiServer) -> Vec<String> {
    let user = User::new("admin", ["system:masters"]);
    let endpoints: Api<Endpoints> = Api::default_namespaced(Client::new(in_process(server.router(), user), "default"));
    let Some(found) = endpoints.get_opt("kubernetes").await.unwrap() else {
        return Vec::new();
    };
    let subsets = found.subsets.unwrap_or_default();
    let addresses = subsets
        .into_iter()
        .flat_map(|subset| subset.addresses.unwrap_or_default());
    addresses.map(|address| address.ip).collect()
}

#[tokio::test(start_paused = true)]
async fn servers_publish_each_other_and_forget_who_died() {
    let store = Arc::new(MemoryStore::new());
    let one = server(&store, "192.0.2.1:6443").await;
    assert_eq!(published(&one).await, ["192.0.2.1"]);
    let other = server(&store, "192.0.2.2:6443").await;
    // One that no pod can reach has no part in it.
    let hidden = server(&store, "127.0.0.1:6443").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(published(&hidden).await, ["192.0.2.1", "192.0.2.2"]);
    }
    drop(one);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(published(&other).await, ["192.0.2.2"]);
    drop(other);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(published(&hidden).await, Vec::<String>::new());
}
