//! The store of several machines: an etcd cluster behind the trait of `store`.
//!
//! Writes go to etcd. Reads and watches are answered from a copy in memory that follows etcd's own watch, so that they
//! are as fast as those of the embedded store; a read of the latest state first asks the cluster how far it is and
//! waits until the copy has come as far, so it sees every write acknowledged before it, also those made through other
//! servers. Speaks the wire format of etcd 3.4 to 3.6.
//!
//! ```text
//!  txn, leases ───────────────────────────────▶ etcd ──watch of all keys──▶ follower
//!  range, revision ──"how far?" (shared)──────▶ etcd                           │
//!        └──────────── waits for, then reads ──▶ index ◀──────────────────────┘
//!  watch ──────────────────────────────────────▶ index
//! ```

mod calls;
mod failure;
mod follow;
mod freshness;
mod members;
mod wire;
mod write;

/// Generated from `proto/etcd.proto` by `cargo xtask gen-proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
mod etcdserverpb;

use crate::failure::{Failure, Verdict};
use crate::follow::Follower;
use crate::freshness::Freshness;
use crate::members::Members;
use crate::wire::Keys;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use store::index::Index;
use store::{Error, LeaseId, Op, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long a read waits for the copy to come as far as the cluster.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// How long changes that exist may fail to come until the watch is suspected of being dead.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// The key that says who wrote the other keys, and in which form.
const LAYOUT_KEY: &str = "/steadfast/layout";
const LAYOUT: &[u8] = b"1";

/// Where the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The client URLs of its members: all `http://` or all `https://`.
    pub endpoints: Vec<String>,
    /// For `https://`.
    pub tls: Option<Tls>,
    /// What is put in front of all keys, so that several users can share a cluster.
    pub prefix: String,
    /// How long the members are tried in turn until a call fails.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            tls: None,
            prefix: String::new(),
            // A cluster elects a new leader in one or two seconds.
            patience: Duration::from_secs(12),
        }
    }
}

/// Whom to trust and who we are; PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority that signed the members' certificates.
    pub ca: Vec<u8>,
    /// Our certificate and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    // Keys do not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("client", &self.client.is_some())
            .finish_non_exhaustive()
    }
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing to connect to.
    #[error("no endpoint of etcd is given")]
    NoEndpoint,
    /// An endpoint is no URL, or the certificates cannot be used.
    #[error("cannot use etcd endpoint {endpoint:?}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// An endpoint is neither `http://` nor `https://`.
    #[error("etcd endpoint {0:?} must begin with http:// or https://")]
    Scheme(String),
    /// An encrypted endpoint without an authority to trust.
    #[error("etcd endpoint {0:?} needs the certificate of the authority to trust")]
    NoAuthority(String),
    /// Certificates are given, and the endpoint is not encrypted.
    #[error("certificates are given for etcd, but endpoint {0:?} is not https://")]
    NotEncrypted(String),
    /// The cluster does not answer, or refuses.
    #[error("cannot load from etcd")]
    Load(#[source] Error),
    /// The keys were written by another program.
    #[error("etcd holds keys under {0:?} that Steadfast did not write: choose another prefix")]
    Foreign(String),
    /// The keys were written by a version of this program that is not known here.
    #[error("layout {found:?} of the keys in etcd is not known to this version")]
    Layout {
        /// What the layout key says.
        found: String,
    },
}

/// A [`Store`] in an etcd cluster. Dropping it closes its watches.
#[derive(Debug)]
pub struct EtcdStore {
    members: Arc<Members>,
    keys: Keys,
    index: Arc<Index>,
    freshness: Freshness,
    stalled: Arc<Notify>,
    /// Follows and answers as long as the store is there.
    _tasks: JoinSet<()>,
}

impl EtcdStore {
    /// Connects and loads all keys.
    ///
    /// # Errors
    /// When the configuration makes no sense or the cluster does not answer.
    pub async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let members = Arc::new(Members::new(config)?);
        let keys = Keys::new(&config.prefix);
        let (loaded, latest) = follow::load(&members, &keys).await.map_err(ConnectError::Load)?;
        let index = Index::new(loaded);
        let stalled = Arc::new(Notify::new());
        let (freshness, answers) = Freshness::new(members.clone());
        let follower = Follower {
            members: members.clone(),
            keys: keys.clone(),
            index: index.clone(),
            stalled: stalled.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run());
        tasks.spawn(answers);
        let store = Self {
            members,
            keys,
            index,
            freshness,
            stalled,
            _tasks: tasks,
        };
        store.come_to(latest).await.map_err(ConnectError::Load)?;
        Ok(store)
    }

    /// Makes sure that the keys below `prefix` are ours: marks them as such if there are none, and looks for the mark
    /// if there are.
    ///
    /// # Errors
    /// [`ConnectError::Foreign`] if another program wrote them.
    pub async fn claim(&self, prefix: &str) -> Result<(), ConnectError> {
        loop {
            let mark = self.get(LAYOUT_KEY, None).await.map_err(ConnectError::Load)?;
            if let Some(kv) = mark.kvs.first() {
                let found = String::from_utf8_lossy(&kv.value).into_owned();
                return match &*kv.value {
                    LAYOUT => Ok(()),
                    _ => Err(ConnectError::Layout { found }),
                };
            }
            let any = RangeRequest {
                start: prefix.to_owned(),
                end: store::prefix_end(prefix),
                revision: Some(mark.revision),
                limit: 1,
            };
            let any = self.range(any).await.map_err(ConnectError::Load)?;
            if any.count > 0 {
                let shown = String::from_utf8_lossy(&self.keys.there(prefix)).into_owned();
                return Err(ConnectError::Foreign(shown));
            }
            let txn = Txn {
                compare: vec![store::Compare {
                    key: LAYOUT_KEY.to_owned(),
                    mod_revision: 0,
                }],
                ops: vec![Op::Put {
                    key: LAYOUT_KEY.to_owned(),
                    value: LAYOUT.into(),
                    lease: None,
                }],
            };
            // If another server was first, its mark is looked at.
            self.txn(txn).await.map_err(ConnectError::Load)?;
        }
    }

    async fn get(&self, key: &str, revision: Option<Revision>) -> Result<RangeResponse, Error> {
        let request = RangeRequest {
            start: key.to_owned(),
            end: None,
            revision,
            limit: 1,
        };
        self.range(request).await
    }

    /// Waits until the copy shows a revision that the cluster has.
    async fn come_to(&self, revision: Revision) -> Result<(), Error> {
        if self.index.revision() >= revision {
            return Ok(());
        }
        let reached = self.index.reached(revision);
        let mut reached = std::pin::pin!(reached);
        if let Ok(reached) = tokio::time::timeout(STALLED_AFTER, reached.as_mut()).await {
            return reached;
        }
        self.stalled.notify_one();
        let reached = tokio::time::timeout(CATCH_UP_MAX - STALLED_AFTER, reached).await;
        reached.unwrap_or_else(|_| Err(Error::Unavailable(Box::new(Failure::timed_out("(watch)")))))
    }

    /// Waits until the copy shows what a caller has heard of elsewhere. What nobody has heard of is told by the index.
    async fn come_to_known(&self, revision: Revision) -> Result<(), Error> {
        if revision <= self.index.revision() {
            return Ok(());
        }
        let latest = self.freshness.latest().await?;
        self.come_to(latest).await
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.index.close();
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn revision(&self) -> Result<Revision, Error> {
        let latest = self.freshness.latest().await?;
        self.come_to(latest).await?;
        Ok(self.index.revision())
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        match request.revision {
            Some(revision) => self.come_to_known(revision).await?,
            None => {
                let latest = self.freshness.latest().await?;
                self.come_to(latest).await?;
            }
        }
        self.index.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        write::txn(&self.members, &self.keys, &txn).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        self.come_to_known(after).await?;
        Ok(Box::new(self.index.watch(prefix, after)?))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.come_to_known(revision).await?;
        self.index.check(revision)?;
        // Compacting needs no leader among servers: the second one to ask finds it done.
        match calls::compact(&self.members, revision).await {
            Ok(()) => {}
            Err(failure) if failure.is_compacted() => {}
            Err(failure) => return Err(failure.of_read()),
        }
        self.index.compact(revision)
    }

    fn history(&self) -> store::History {
        self.index.history()
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        // etcd counts in seconds, and rounds short times up to what its elections need.
        let seconds = ttl.as_millis().div_ceil(1000).max(1);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).min(LEASE_SECONDS_MAX);
        let granted = calls::grant(&self.members, seconds).await;
        granted.map(wire::number).map_err(Failure::of_write)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        match calls::keep_alive(&self.members, wire::signed(lease)).await {
            Ok(ttl) if ttl > 0 => Ok(()),
            Ok(_) => Err(Error::LeaseNotFound(lease)),
            Err(failure) => Err(failure.of_read()),
        }
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), Error> {
        let called = calls::revoke(&self.members, wire::signed(lease)).await;
        match called.outcome {
            Ok(()) => Ok(()),
            // An earlier try was done, though its answer was lost.
            Err(failure) if failure.is_lease_not_found() && called.repeated => Ok(()),
            Err(failure) if failure.is_lease_not_found() => Err(Error::LeaseNotFound(lease)),
            Err(failure) if failure.verdict() == Verdict::Refused => Err(Error::Storage(Box::new(failure))),
            Err(failure) => Err(failure.of_write()),
        }
    }
}

/// etcd takes no longer leases.
const LEASE_SECONDS_MAX: i64 = 9_000_000_000;
