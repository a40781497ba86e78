//! Work grows with what changed: a thousand pods take seconds, not minutes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, web};

/// Far above what it takes even unoptimised on a busy machine, far below what anything quadratic would take.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_parallel_pods_are_up_in_seconds() {
    let cluster = Cluster::start().await;
    let mut set = web(1000);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    set["spec"]["volumeClaimTemplates"] = json!([]);
    let began = Instant::now();
    cluster.create(&set).await;
    cluster.until_settled(1000).await;
    println!("1000 parallel pods: {:?}", began.elapsed());
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let began = Instant::now();
    cluster.patch(json!({ "spec": { "replicas": 0 } })).await;
    cluster.until_settled(0).await;
    println!("1000 to none: {:?}", began.elapsed());
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_ordered_pods_are_up_in_seconds() {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    cluster.create(&web(50)).await;
    cluster.until_settled(50).await;
    println!("50 ordered pods with claims: {:?}", began.elapsed());
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
}
