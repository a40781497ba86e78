//! The servers that share the store: each keeps a key alive that says where pods reach it, so that all of them publish
//! the same addresses behind `default/kubernetes`, and those of a server that died go away.

use crate::server::Server;
use crate::status::{Outcome, store_failed};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use store::{Error, LeaseId, Op, RangeRequest, Txn};

/// The key of a server is this and its address.
const KEYS: &str = "/registry/masterleases/";

/// How long a server that says nothing counts as alive: three times what it takes to say so again.
const TTL: Duration = Duration::from_secs(30);

/// The lease of this server's own key.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    lease: Mutex<Option<LeaseId>>,
}

impl Presence {
    fn lease(&self) -> Option<LeaseId> {
        *self.lease.lock().expect("nothing panics while it holds the lease")
    }

    fn set(&self, lease: LeaseId) {
        *self.lease.lock().expect("nothing panics while it holds the lease") = Some(lease);
    }
}

impl Server {
    /// Says that this server is alive, if pods can reach it, and tells where all servers are that pods can reach.
    ///
    /// They have one port and one family of addresses, as the Service in front of them must have; the first one's
    /// counts.
    pub(crate) async fn peers(&self) -> Outcome<Vec<SocketAddr>> {
        let advertised = self.config.advertise;
        if !advertised.ip().is_loopback() && !advertised.ip().is_unspecified() {
            let announced = self.announce(advertised).await;
            announced.map_err(|error| store_failed(&error))?;
        }
        let request = RangeRequest {
            start: KEYS.to_owned(),
            end: store::prefix_end(KEYS),
            revision: None,
            limit: 0,
        };
        let found = self.store.range(request).await.map_err(|error| store_failed(&error))?;
        let peers = found
            .kvs
            .iter()
            .filter_map(|kv| kv.key.strip_prefix(KEYS)?.parse().ok());
        let mut peers: Vec<SocketAddr> = peers.collect();
        if let Some(first) = peers.first().copied() {
            peers.retain(|peer| peer.port() == first.port() && peer.is_ipv4() == first.is_ipv4());
        }
        Ok(peers)
    }

    async fn announce(&self, advertised: SocketAddr) -> Result<(), Error> {
        if let Some(lease) = self.presence.lease() {
            match self.store.keep_alive(lease).await {
                // It ended while the store could not be reached.
                Err(Error::LeaseNotFound(_)) => {}
                kept => return kept,
            }
        }
        let lease = self.store.grant_lease(TTL).await?;
        let put = Op::Put {
            key: format!("{KEYS}{advertised}"),
            value: Bytes::new(),
            lease: Some(lease),
        };
        let txn = Txn {
            compare: Vec::new(),
            ops: vec![put],
        };
        self.store.txn(txn).await?;
        self.presence.set(lease);
        Ok(())
    }
}
