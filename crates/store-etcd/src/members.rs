//! The members of the cluster: calls go to one of them, and to the next when that one fails.

use crate::failure::{Failure, Verdict};
use crate::{Config, ConnectError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long one member may take for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// How long to wait when all members have failed in turn.
const PAUSE: Duration = Duration::from_millis(100);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A member whose machine is gone says nothing: it is asked this often, and given this long to answer.
const PING_AFTER: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A member of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: String,
    pub(crate) channel: Channel,
    place: usize,
}

/// All members.
#[derive(Debug)]
pub(crate) struct Members {
    all: Vec<Member>,
    patience: Duration,
    /// The place of the member that calls go to.
    preferred: AtomicUsize,
}

/// How a call that may have been done more than once ended.
#[derive(Debug)]
pub(crate) struct Called<T> {
    pub(crate) outcome: Result<T, Failure>,
    /// An earlier try of the same call may have been done, too.
    pub(crate) repeated: bool,
}

impl Members {
    pub(crate) fn new(config: &Config) -> Result<Self, ConnectError> {
        let mut all = Vec::new();
        for (place, endpoint) in config.endpoints.iter().enumerate() {
            all.push(Member {
                endpoint: endpoint.clone(),
                channel: channel(endpoint, config)?,
                place,
            });
        }
        if all.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        Ok(Self {
            all,
            patience: config.patience,
            preferred: AtomicUsize::new(0),
        })
    }

    /// The member that calls go to now.
    pub(crate) fn current(&self) -> Member {
        self.all[self.preferred.load(Ordering::Relaxed) % self.all.len()].clone()
    }

    /// Lets calls go to the next member, unless somebody has done so already.
    pub(crate) fn avoid(&self, member: &Member) {
        let next = (member.place + 1) % self.all.len();
        // Losing the race means that another caller has moved on.
        let moved = self
            .preferred
            .compare_exchange(member.place, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && self.all.len() > 1 {
            tracing::info!(
                from = member.endpoint,
                to = self.all[next].endpoint,
                "turning to another member of etcd"
            );
        }
    }

    /// Calls a member, and others in turn while the failure is not a refusal.
    pub(crate) async fn call<T, F>(&self, what: impl Fn(Channel) -> F) -> Called<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut repeated = false;
        for tried in 1.. {
            let member = self.current();
            let timeout = CALL_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
            let failure = match tokio::time::timeout(timeout, what(member.channel.clone())).await {
                Ok(Ok(answer)) => {
                    return Called {
                        outcome: Ok(answer),
                        repeated,
                    };
                }
                Ok(Err(status)) => Failure::new(&member.endpoint, &status),
                Err(_) => Failure::timed_out(&member.endpoint),
            };
            let verdict = failure.verdict();
            tracing::debug!(%failure, ?verdict, "a call of etcd failed");
            if verdict == Verdict::Refused || Instant::now() + PAUSE >= deadline {
                return Called {
                    outcome: Err(failure),
                    repeated,
                };
            }
            repeated |= verdict == Verdict::Unknown;
            self.avoid(&member);
            if tried % self.all.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        unreachable!("only an answer or the deadline ends the loop")
    }
}

fn channel(endpoint: &str, config: &Config) -> Result<Channel, ConnectError> {
    let invalid = |source: tonic::transport::Error| ConnectError::Endpoint {
        endpoint: endpoint.to_owned(),
        source,
    };
    let mut channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(invalid)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match (channel.uri().scheme_str(), &config.tls) {
        (Some("https"), Some(tls)) => {
            let mut settings = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
            if let Some((certificate, key)) = &tls.client {
                settings = settings.identity(Identity::from_pem(certificate, key));
            }
            channel = channel.tls_config(settings).map_err(invalid)?;
        }
        (Some("https"), None) => return Err(ConnectError::NoAuthority(endpoint.to_owned())),
        (Some("http"), None) => {}
        // Secrets that were meant to be protected must not travel in the clear.
        (Some("http"), Some(_)) => return Err(ConnectError::NotEncrypted(endpoint.to_owned())),
        _ => return Err(ConnectError::Scheme(endpoint.to_owned())),
    }
    Ok(channel.connect_lazy())
}
