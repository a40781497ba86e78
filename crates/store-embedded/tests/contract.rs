//! The contract that every store keeps, on a real file.

use std::sync::Arc;
use store_embedded::EmbeddedStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_store_keeps_the_contract() {
    for (name, check) in store::contract::checks() {
        println!("{name}");
        let dir = tempfile::tempdir().unwrap();
        check(Arc::new(EmbeddedStore::open(dir.path()).unwrap())).await;
    }
}
