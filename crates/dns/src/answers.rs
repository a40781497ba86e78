//! What the server says to a packet, without sockets: of a cluster that stands still, and with nobody to ask about other
//! names. For those who throw packets at it.

use crate::answerer::{Answered, Answerer};
use crate::cluster::{Cluster, Told};
use crate::metrics::Metrics;
use crate::records::{Service, Slice};
use crate::response::Transport;
use crate::upstream::{Forwarder, Upstream};
use crate::zone::Zone;
use api::k8s::api::{core::v1 as core, discovery::v1 as discovery};
use service_watch::{Key, SliceKey, owner_of};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};

/// A DNS server of a cluster that stands still.
pub struct Answers(Answerer);

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Answers {
    /// Knows these objects; those without a name or a namespace, and slices of no Service, are left out.
    pub fn of(domain: &str, services: &[core::Service], slices: &[discovery::EndpointSlice]) -> Self {
        let mut cluster = Cluster::new(Zone::new(domain, &[IpAddr::V4(Ipv4Addr::LOCALHOST)], 1));
        let (mut service_keys, mut slice_keys) = (HashSet::new(), HashSet::new());
        for service in services {
            if let (Some(namespace), Some(name)) = (service.metadata.namespace.clone(), service.metadata.name.clone()) {
                let key = Key { namespace, name };
                cluster.take(Told::Service(key.clone(), Service::read(service)));
                service_keys.insert(key);
            }
        }
        for slice in slices {
            if let (Some(owner), Some(name)) = (owner_of(slice), slice.metadata.name.clone()) {
                let key: SliceKey = (owner.namespace.clone(), name);
                cluster.take(Told::Slice(key.clone(), Some((owner, Slice::read(slice)))));
                slice_keys.insert(key);
            }
        }
        cluster.take(Told::Services(service_keys));
        cluster.take(Told::Slices(slice_keys));
        Self(Answerer {
            cluster: Arc::new(RwLock::new(cluster)),
            forwarder: Forwarder::new(&Upstream::Nobody, Vec::new()),
            metrics: Metrics::default(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The answer to a packet, if it gets one.
    pub async fn to(&self, packet: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
        let mut out = Vec::new();
        match self.0.answer(packet, transport, &mut out) {
            Answered::Now => Some(out),
            Answered::Later(question) => Some(self.0.ask(&question).await),
            Answered::Not => None,
        }
    }
}
