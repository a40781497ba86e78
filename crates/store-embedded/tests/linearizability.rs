//! What concurrent clients of one store are told.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

#[path = "../../store/tests/support/linearizability.rs"]
mod linearizability;

use std::sync::Arc;
use store_embedded::EmbeddedStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_fits_into_one_order() {
    let dir = tempfile::tempdir().unwrap();
    linearizability::check(vec![Arc::new(EmbeddedStore::open(dir.path()).unwrap())]).await;
}
