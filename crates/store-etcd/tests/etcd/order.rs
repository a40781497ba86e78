//! What concurrent clients of two servers on one cluster are told.

use crate::connect;
use crate::linearizability::check;
use conformance::etcd::Etcd;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_of_two_servers_fits_into_one_order() {
    let etcd = Etcd::start(1).unwrap();
    check(vec![Arc::new(connect(&etcd).await), Arc::new(connect(&etcd).await)]).await;
}
