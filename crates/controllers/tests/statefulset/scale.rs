//! Work grows with what changed: hundreds of pods take seconds, not minutes, and few requests each.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, web};

/// Far above what it takes even unoptimised on a busy machine, far below what anything quadratic would take.
const LIMIT: Duration = Duration::from_secs(120);

/// Enough for anything quadratic to be seen.
const PODS: i32 = 500;

/// The same, as a count.
const PODS_COUNT: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_parallel_pods_are_up_in_seconds() {
    let cluster = Cluster::start().await;
    let mut set = web(PODS);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    set["spec"]["volumeClaimTemplates"] = json!([]);
    let began = Instant::now();
    cluster.create(&set).await;
    cluster.until_settled(PODS).await;
    let requests = cluster.requests();
    println!("{PODS} parallel pods: {:?}, {requests} requests", began.elapsed());
    assert!(requests < 4 * PODS_COUNT, "{requests} requests");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let began = Instant::now();
    cluster.patch(json!({ "spec": { "replicas": 0 } })).await;
    cluster.until_settled(0).await;
    println!("{PODS} to none: {:?}", began.elapsed());
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
