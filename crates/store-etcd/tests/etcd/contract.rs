//! The contract that every store keeps, each check on an etcd of its own.

use crate::connect;
use conformance::etcd::Etcd;
use futures::StreamExt;
use std::sync::Arc;
use store::contract::{Check, checks};

/// Checks that run side by side.
const ABREAST: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    async fn keep((name, check): (&'static str, Check)) {
        println!("{name}");
        let etcd = Etcd::start(1).unwrap();
        check(Arc::new(connect(&etcd).await)).await;
    }
    let all = futures::stream::iter(checks()).map(|check| tokio::spawn(keep(check)));
    let ended: Vec<_> = all.buffer_unordered(ABREAST).collect().await;
    for check in ended {
        check.unwrap();
    }
}
