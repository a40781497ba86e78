//! Names outside the cluster, asked of other servers.

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::{TokioResolver, system_conf::parse_resolv_conf};
use std::collections::hash_map::RandomState;
use std::fmt::{Display, Formatter};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// How long one server may take, and how often it is tried: a client waits 5 s.
const TIMEOUT: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 2;

/// Answers that are remembered.
const CACHED_ANSWERS_MAX: u64 = 1024;

/// Questions under way; more are refused, so that a dead server does not fill the memory.
const ASKED_MAX: usize = 512;

/// How often the file of name servers is looked at; laptops change networks.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Who answers for names outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The name servers of a file in the format of `/etc/resolv.conf`, read again when it changes.
    File(PathBuf),
    /// These servers.
    Servers(Vec<SocketAddr>),
    /// Nobody: such names are refused.
    Nobody,
}

/// A text says nobody who can be asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a file's whole path, nor an address such as 192.0.2.1 or [2001:db8::1]:53, nor none")]
pub struct ParseError {
    text: String,
}

impl FromStr for Upstream {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "none" {
            return Ok(Self::Nobody);
        }
        if text.starts_with('/') {
            return Ok(Self::File(text.into()));
        }
        let server = |text: &str| {
            let address = text.parse().map(|ip| SocketAddr::new(ip, DNS_PORT));
            let text = text.to_owned();
            address.or_else(|_| text.parse()).map_err(|_| ParseError { text })
        };
        text.split(',')
            .map(str::trim)
            .map(server)
            .collect::<Result<_, _>>()
            .map(Self::Servers)
    }
}

impl Display for Upstream {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Servers(servers) => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                f.write_str(&servers.join(","))
            }
            Self::Nobody => f.write_str("none"),
        }
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::File(PathBuf::from("/etc/resolv.conf"))
    }
}

/// What the others said.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    /// For a negative answer.
    pub(crate) authority: Option<Record>,
}

impl Forwarded {
    fn failed(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authority: None,
        }
    }
}

/// Who can be asked now.
struct Current {
    resolver: Option<Arc<TokioResolver>>,
    changed: Option<SystemTime>,
    checked: Instant,
}

/// Asks other servers.
pub(crate) struct Forwarder {
    file: Option<PathBuf>,
    /// Our own addresses: asking them would go round in circles.
    own: Vec<IpAddr>,
    current: RwLock<Current>,
    asking: Semaphore,
    /// A name that nobody else asks for: if it is asked of us, what we asked came back to us.
    probe: String,
    /// It did, so nobody is asked any more until there are other servers.
    is_loop: AtomicBool,
}

impl Forwarder {
    pub(crate) fn new(upstream: &Upstream, own: Vec<IpAddr>) -> Self {
        let (file, resolver, changed) = match upstream {
            Upstream::File(path) => {
                let (resolver, changed) = read_file(path, &own);
                (Some(path.clone()), resolver, changed)
            }
            Upstream::Servers(servers) => (None, resolver(servers.iter().map(|server| at(*server)).collect()), None),
            Upstream::Nobody => (None, None, None),
        };
        let current = Current {
            resolver,
            changed,
            checked: Instant::now(),
        };
        Self {
            file,
            own,
            current: RwLock::new(current),
            asking: Semaphore::new(ASKED_MAX),
            probe: format!("{:016x}.steadfast-loop.", RandomState::new().hash_one("probe")),
            is_loop: AtomicBool::new(false),
        }
    }

    /// Finds out, now and whenever the servers change, whether they ask us: questions would go round for ever.
    pub(crate) async fn watch_for_loops(&self) {
        let mut asked: Option<Arc<TokioResolver>> = None;
        loop {
            let resolver = self.servers();
            let is_same = |known: &Arc<TokioResolver>| resolver.as_ref().is_some_and(|now| Arc::ptr_eq(known, now));
            if let Some(resolver) = resolver.clone()
                && !asked.as_ref().is_some_and(is_same)
            {
                self.is_loop.store(false, Ordering::Relaxed);
                // What they say does not matter, only whether it is us who is asked.
                drop(resolver.lookup(self.probe.as_str(), RecordType::TXT).await);
            }
            asked = resolver;
            tokio::time::sleep(FILE_CHECK_INTERVAL).await;
        }
    }

    /// Somebody asks for a name; `true` if it is ourselves.
    fn is_own_question(&self, name: &Name) -> bool {
        let is_own = name.to_ascii().eq_ignore_ascii_case(&self.probe);
        if is_own && !self.is_loop.swap(true, Ordering::Relaxed) {
            tracing::error!("the name servers for names outside the cluster ask this server: they are asked no more");
        }
        is_own
    }

    /// Somebody can be asked.
    pub(crate) fn is_there(&self) -> bool {
        self.resolver().is_some()
    }

    /// Asks; never fails, for a failure is an answer, too.
    pub(crate) async fn ask(&self, name: Name, kind: RecordType) -> Forwarded {
        let Some(resolver) = self.resolver().filter(|_| !self.is_own_question(&name)) else {
            return Forwarded::failed(ResponseCode::Refused);
        };
        let Ok(_turn) = self.asking.try_acquire() else {
            return Forwarded::failed(ResponseCode::ServFail);
        };
        match resolver.lookup(name, kind).await {
            Ok(lookup) => Forwarded {
                code: ResponseCode::NoError,
                answers: lookup.answers().to_vec(),
                authority: None,
            },
            Err(NetError::Dns(DnsError::NoRecordsFound(negative))) => Forwarded {
                code: negative.response_code,
                answers: Vec::new(),
                authority: negative.soa.map(|soa| soa.into_record_of_rdata()),
            },
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Forwarded::failed(code),
            Err(error) => {
                tracing::debug!(%error, "upstream name servers failed");
                Forwarded::failed(ResponseCode::ServFail)
            }
        }
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        self.servers().filter(|_| !self.is_loop.load(Ordering::Relaxed))
    }

    fn servers(&self) -> Option<Arc<TokioResolver>> {
        if let Some(file) = &self.file {
            self.look_at(file);
        }
        self.current.read().expect(NO_PANIC).resolver.clone()
    }

    fn look_at(&self, file: &Path) {
        if self.current.read().expect(NO_PANIC).checked.elapsed() < FILE_CHECK_INTERVAL {
            return;
        }
        let mut current = self.current.write().expect(NO_PANIC);
        current.checked = Instant::now();
        if modified(file) != current.changed {
            tracing::info!(file = %file.display(), "name servers of the host have changed");
            (current.resolver, current.changed) = read_file(file, &self.own);
        }
    }
}

const NO_PANIC: &str = "nothing panics while it holds the resolver";

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|found| found.modified()).ok()
}

fn read_file(file: &Path, own: &[IpAddr]) -> (Option<Arc<TokioResolver>>, Option<SystemTime>) {
    let changed = modified(file);
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(file = %file.display(), %error, "there are no name servers for names outside the cluster");
            return (None, changed);
        }
    };
    match parse_resolv_conf(text) {
        Ok((config, _)) => {
            let servers = config
                .name_servers()
                .iter()
                .filter(|server| !own.contains(&server.ip))
                .cloned();
            (resolver(servers.collect()), changed)
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the file of name servers cannot be read");
            (None, changed)
        }
    }
}

fn at(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        });
    NameServerConfig::new(server.ip(), true, connections.collect())
}

fn resolver(servers: Vec<NameServerConfig>) -> Option<Arc<TokioResolver>> {
    if servers.is_empty() {
        return None;
    }
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHED_ANSWERS_MAX;
    options.use_hosts_file = ResolveHosts::Never;
    // Stub resolvers want the aliases as well as what they lead to.
    options.preserve_intermediates = true;
    match builder.build() {
        Ok(resolver) => Some(Arc::new(resolver)),
        Err(error) => {
            tracing::warn!(%error, "no resolver for names outside the cluster");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["none", "/run/resolv.conf", "192.0.2.1:53,[2001:db8::1]:5353"] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1".parse::<Upstream>().unwrap().to_string(), "192.0.2.1:53");
        for text in ["", "resolv.conf", "192.0.2.1;192.0.2.2", "192.0.2.1:dns"] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
