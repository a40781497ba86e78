//! Names outside the cluster, asked of other servers.

use hickory_server::net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, Record, RecordType};
use hickory_server::resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_server::resolver::{TokioResolver, system_conf::parse_resolv_conf};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

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
        }
    }

    /// Somebody can be asked.
    pub(crate) fn is_there(&self) -> bool {
        self.resolver().is_some()
    }

    /// Asks; never fails, for a failure is an answer, too.
    pub(crate) async fn ask(&self, name: Name, kind: RecordType) -> Forwarded {
        let Some(resolver) = self.resolver() else {
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
