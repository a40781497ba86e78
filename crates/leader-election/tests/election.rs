//! Candidates against the real API server, in one process. Time is virtual: it runs when everybody waits.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use apiserver::{ApiServer, User, in_process};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use leader_election::{Candidate, Config, Ended};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

async fn client() -> Client {
    let server = ApiServer::new(Arc::new(MemoryStore::new()), apiserver::Config::default())
        .await
        .unwrap();
    let admin = User::new("admin", ["system:masters"]);
    Client::new(in_process(server.router(), admin), "default")
}

struct Standing {
    shutdown: CancellationToken,
    task: JoinHandle<Result<Ended, Infallible>>,
}

/// Stands as `identity`, and tells when it starts and stops to lead.
fn stand(client: &Client, identity: &'static str, told: &mpsc::UnboundedSender<(&'static str, bool)>) -> Standing {
    let candidate = Candidate::new(client.clone(), Config::new("test", identity)).unwrap();
    let shutdown = CancellationToken::new();
    let told = told.clone();
    let work = move |leading: CancellationToken| {
        let told = told.clone();
        async move {
            told.send((identity, true)).unwrap();
            leading.cancelled().await;
            told.send((identity, false)).unwrap();
            Ok(())
        }
    };
    let task = tokio::spawn(candidate.run(shutdown.clone(), work));
    Standing { shutdown, task }
}

async fn spec(client: &Client) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    leases.get("test").await.unwrap().spec.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_vanishes_is_followed_after_its_lease_and_one_that_goes_sooner() {
    let client = client().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let first = stand(&client, "first", &told);
    assert_eq!(heard.recv().await, Some(("first", true)));
    let second = stand(&client, "second", &told);
    // It leads far longer than a lease lasts, because it renews.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(heard.try_recv().is_err());
    assert_eq!(spec(&client).await.lease_transitions, Some(0));

    first.task.abort();
    let vanished = Instant::now();
    assert_eq!(heard.recv().await, Some(("second", true)));
    let took = vanished.elapsed();
    // Its last renewal may be 2 s old; the other saw that up to 4.4 s late, and looks again up to 4.4 s late.
    assert!(
        (Duration::from_secs(13)..Duration::from_secs(24)).contains(&took),
        "{took:?}"
    );
    assert_eq!(spec(&client).await.lease_transitions, Some(1));

    let third = stand(&client, "third", &told);
    tokio::time::sleep(Duration::from_secs(30)).await;
    second.shutdown.cancel();
    assert_eq!(second.task.await.unwrap(), Ok(Ended::Shutdown));
    assert_eq!(heard.recv().await, Some(("second", false)));
    let went = Instant::now();
    assert_eq!(heard.recv().await, Some(("third", true)));
    assert!(went.elapsed() < Duration::from_secs(5), "{:?}", went.elapsed());
    third.shutdown.cancel();
    third.task.await.unwrap().unwrap();
    let left = spec(&client).await;
    assert_eq!(
        (left.holder_identity.as_deref(), left.lease_duration_seconds),
        (Some(""), Some(1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_stops_its_work_and_stands_again() {
    let client = client().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let (told, mut heard) = mpsc::unbounded_channel();
    let standing = stand(&client, "we", &told);
    assert_eq!(heard.recv().await, Some(("we", true)));
    let thief = taken_by_a_thief();
    leases.patch("test", &PatchParams::default(), &thief).await.unwrap();
    assert_eq!(heard.recv().await, Some(("we", false)));
    let lost = Instant::now();
    assert_eq!(heard.recv().await, Some(("we", true)));
    assert!(
        lost.elapsed() >= Duration::from_secs(15),
        "it waits for the thief's lease"
    );
    assert_eq!(spec(&client).await.holder_identity.as_deref(), Some("we"));
    // A Lease that somebody deletes is made again by its holder.
    leases.delete("test", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(spec(&client).await.holder_identity.as_deref(), Some("we"));
    assert!(heard.try_recv().is_err());
    standing.shutdown.cancel();
    standing.task.await.unwrap().unwrap();
}

fn taken_by_a_thief() -> Patch<Lease> {
    let spec = LeaseSpec {
        holder_identity: Some("thief".to_owned()),
        ..LeaseSpec::default()
    };
    Patch::Merge(Lease {
        spec: Some(spec),
        ..Lease::default()
    })
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_ends_the_candidate_and_frees_the_lease() {
    let client = client().await;
    for (outcome, expected) in [(Ok(()), Ok(Ended::Work)), (Err("broken"), Err("broken"))] {
        let candidate = Candidate::new(client.clone(), Config::new("test", "we")).unwrap();
        let ended = candidate.run(CancellationToken::new(), move |_| async move { outcome });
        assert_eq!(ended.await, expected);
        assert_eq!(spec(&client).await.holder_identity.as_deref(), Some(""));
    }
}
