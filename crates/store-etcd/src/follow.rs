//! Keeps the copy in memory true: loads it once, then takes over every change that etcd tells.
//!
//! ```text
//!  load at the oldest revision that etcd still has ──▶ follow from there ──▶ up to date
//!             ▲                                          │      ▲  │
//!             │ what comes next was compacted,           │      └──┘ the connection broke: another member,
//!             │ or the cluster went back in time         │           from where we are
//!             └──────────────────────────────────────────┘
//! ```
//!
//! The watch is on all keys of the cluster, not only on ours. Every revision of etcd changes some key, so the copy
//! always learns how far it has come, and nothing depends on progress requests, which etcd 3.4 does not answer.

use crate::calls;
use crate::etcdserverpb as pb;
use crate::failure::Failure;
use crate::members::{Member, Members};
use crate::wire::{self, Keys};
use std::sync::Arc;
use std::time::Duration;
use store::index::{FIRST_REVISION, Index, Loaded};
use store::{Error, KeyValue, Revision};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Streaming;

/// Keys that are loaded at once.
const PAGE_KEYS: i64 = 500;

/// The most revisions of the past that are loaded at the start; if etcd has more, only the present is loaded.
const PAST_REVISIONS_MAX: Revision = 50_000;

/// How long to wait before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a member may take to begin a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a watch ended.
enum End {
    Broken(Failure),
    /// What comes next is not known to etcd any more.
    Lost,
}

/// The task that follows.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) members: Arc<Members>,
    pub(crate) keys: Keys,
    pub(crate) index: Arc<Index>,
    /// Somebody waits for changes that exist and do not come.
    pub(crate) stalled: Arc<Notify>,
}

/// Loads the state from which following starts, and says how far it has to come to be up to date.
pub(crate) async fn load(members: &Members, keys: &Keys) -> Result<(Loaded, Revision), Error> {
    loop {
        let latest = calls::latest(members).await.map_err(Failure::of_read)?;
        let oldest = oldest(members).await.map_err(Failure::of_read)?;
        let from = if latest.saturating_sub(oldest) > PAST_REVISIONS_MAX {
            latest
        } else {
            oldest
        };
        match load_at(members, keys, from).await {
            Ok(loaded) => return Ok((loaded, latest)),
            // It was compacted meanwhile.
            Err(failure) if failure.is_compacted() => {}
            Err(failure) => return Err(failure.of_read()),
        }
    }
}

/// The oldest revision that etcd still has.
async fn oldest(members: &Members) -> Result<Revision, Failure> {
    let first = pb::RangeRequest {
        key: b"\0".to_vec(),
        revision: wire::signed(FIRST_REVISION),
        ..pb::RangeRequest::default()
    };
    match calls::range(members, first).await {
        Ok(_) => return Ok(FIRST_REVISION),
        Err(failure) if failure.is_compacted() => {}
        Err(failure) => return Err(failure),
    }
    // Only a watch that comes too late is told what is left.
    let member = members.current();
    let asked = async {
        let mut watch = calls::watch(&member, FIRST_REVISION).await?;
        while let Some(response) = next(&member, &mut watch).await? {
            if response.compact_revision > 0 {
                return Ok(wire::number(response.compact_revision));
            }
        }
        Err(ended(&member, "the watch ended"))
    };
    let asked = tokio::time::timeout(OPEN_TIMEOUT, asked).await;
    asked.unwrap_or_else(|_| {
        members.avoid(&member);
        Err(Failure::timed_out(&member.endpoint))
    })
}

async fn load_at(members: &Members, keys: &Keys, revision: Revision) -> Result<Loaded, Failure> {
    let mut loaded = Loaded {
        revision,
        ..Loaded::default()
    };
    let (mut key, range_end) = keys.ours();
    loop {
        let page = pb::RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: PAGE_KEYS,
            revision: wire::signed(revision),
            ..pb::RangeRequest::default()
        };
        let page = calls::range(members, page).await?;
        if let Some(last) = page.kvs.last() {
            key.clone_from(&last.key);
            key.push(0);
        }
        let kvs = page.kvs.into_iter().filter_map(|kv| keys.kv(kv));
        loaded.keys.extend::<Vec<KeyValue>>(kvs.collect());
        if !page.more {
            return Ok(loaded);
        }
    }
}

impl Follower {
    /// Follows without end.
    pub(crate) async fn run(self) {
        loop {
            let member = self.members.current();
            let begun = Instant::now();
            match self.follow(&member).await {
                End::Broken(failure) => {
                    tracing::warn!(%failure, "the watch of etcd broke and is opened again");
                    self.members.avoid(&member);
                }
                End::Lost => self.start_anew().await,
            }
            if begun.elapsed() < PAUSE {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Takes over changes as long as the member tells them.
    async fn follow(&self, member: &Member) -> End {
        match tokio::time::timeout(OPEN_TIMEOUT, calls::latest(&self.members)).await {
            // Somebody restored a backup of etcd: what we know never happened.
            Ok(Ok(latest)) if latest < self.index.revision() => return End::Lost,
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => return End::Broken(failure),
            Err(_) => return End::Broken(Failure::timed_out(&member.endpoint)),
        }
        let opening = calls::watch(member, self.index.revision() + 1);
        let mut watch = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(failure)) => return End::Broken(failure),
            Err(_) => return End::Broken(Failure::timed_out(&member.endpoint)),
        };
        loop {
            let response = tokio::select! {
                response = next(member, &mut watch) => response,
                () = self.stalled.notified() => Err(ended(member, "changes that exist are not told")),
            };
            match response {
                Ok(Some(response)) if response.compact_revision > 0 => return End::Lost,
                Ok(Some(response)) if response.canceled => return End::Broken(ended(member, &response.cancel_reason)),
                Ok(Some(response)) => self.take_over(response.events),
                Ok(None) => return End::Broken(ended(member, "the watch ended")),
                Err(failure) => return End::Broken(failure),
            }
        }
    }

    /// etcd tells whole transactions only.
    fn take_over(&self, events: Vec<pb::Event>) {
        let last = events.last().and_then(|event| event.kv.as_ref());
        let Some(revision) = last.map(|kv| wire::number(kv.mod_revision)) else {
            return;
        };
        let changes = events.into_iter().filter_map(|event| self.keys.change(event));
        self.index.replicate(changes.collect(), revision);
    }

    async fn start_anew(&self) {
        tracing::warn!("what happened in etcd since the connection broke is not known any more; loading everything");
        loop {
            let latest = match calls::latest(&self.members).await {
                Ok(latest) => latest,
                Err(failure) => {
                    tracing::warn!(%failure, "etcd cannot be loaded");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match load_at(&self.members, &self.keys, latest).await {
                Ok(loaded) => return self.index.reset(loaded),
                Err(failure) => tracing::warn!(%failure, "etcd cannot be loaded"),
            }
        }
    }
}

async fn next(member: &Member, watch: &mut Streaming<pb::WatchResponse>) -> Result<Option<pb::WatchResponse>, Failure> {
    let next = watch.message().await;
    next.map_err(|status| Failure::new(&member.endpoint, &status))
}

fn ended(member: &Member, why: &str) -> Failure {
    Failure::new(&member.endpoint, &tonic::Status::unavailable(why))
}
