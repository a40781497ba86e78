//! A candidate at work: stands for the Lease, leads, goes.

use crate::protocol::{self, JITTER, Observed, Step};
use crate::{Config, InvalidConfig};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the last write of a leader that goes may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// How a candidate ended without an error of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Shutdown,
    /// Its work ended by itself while it led; the Lease is released.
    Work,
}

/// Somebody who stands for a Lease.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    config: Config,
    observed: Option<Observed>,
    resource_version: Option<String>,
}

impl Candidate {
    /// A candidate that does nothing yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn new(client: Client, config: Config) -> Result<Self, InvalidConfig> {
        config.check()?;
        Ok(Self {
            leases: Api::namespaced(client, &config.namespace),
            config,
            observed: None,
            resource_version: None,
        })
    }

    /// Works whenever it leads, until shutdown; then waits for the work to end and releases the Lease.
    ///
    /// `work` is called each time the Lease is won. Its token is cancelled at shutdown and when the Lease is lost: then
    /// it has until the Lease may be another's to end, and is dropped if it does not. After a loss it stands again.
    ///
    /// # Errors
    /// Those of the work, which end the candidate.
    pub async fn run<W, F, E>(mut self, shutdown: CancellationToken, mut work: W) -> Result<Ended, E>
    where
        W: FnMut(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
    {
        loop {
            let renewed = tokio::select! {
                renewed = self.win() => renewed,
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
            };
            let Config {
                namespace,
                name,
                identity,
                ..
            } = &self.config;
            tracing::info!(lease = format_args!("{namespace}/{name}"), %identity, "leads");
            match self.lead(renewed, &shutdown, &mut work).await {
                None => tracing::warn!(lease = self.config.name, "the Lease could not be renewed and is lost"),
                Some(ended) => {
                    self.release().await;
                    return ended.map(|()| match shutdown.is_cancelled() {
                        true => Ended::Shutdown,
                        false => Ended::Work,
                    });
                }
            }
        }
    }

    /// Looks and waits until it leads; the time of the write that made it so.
    async fn win(&mut self) -> Instant {
        loop {
            let begun = Instant::now();
            match tokio::time::timeout(self.config.renew_deadline, self.attempt()).await {
                Ok(Ok(true)) => return begun,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::info!(lease = self.config.name, %error, "cannot stand for the Lease"),
                Err(_) => tracing::info!(lease = self.config.name, "the API server does not answer in time"),
            }
            let factor = 1.0 + rand::random_range(0.0..JITTER);
            tokio::time::sleep(self.config.retry_period.mul_f64(factor)).await;
        }
    }

    /// Works and renews. `None` if the Lease was lost, else how the work ended.
    async fn lead<W, F, E>(
        &mut self,
        renewed: Instant,
        shutdown: &CancellationToken,
        work: &mut W,
    ) -> Option<Result<(), E>>
    where
        W: FnMut(CancellationToken) -> F,
        F: Future<Output = Result<(), E>>,
    {
        let leading = shutdown.child_token();
        let mut work = std::pin::pin!(work(leading.clone()));
        let lost_at = tokio::select! {
            // Work that has ended is never taken for a lost Lease.
            biased;
            ended = work.as_mut() => return Some(ended),
            lost_at = self.renew(renewed) => lost_at,
        };
        leading.cancel();
        match tokio::time::timeout_at(lost_at, work).await {
            // An error of work that was told to stop may well come from what lost us the Lease.
            Ok(Err(_)) | Err(_) => tracing::warn!(lease = self.config.name, "the work was cut off"),
            Ok(Ok(())) => {}
        }
        // Shutdown and loss at once: others may lead already, so there is nothing to release.
        shutdown.is_cancelled().then_some(Ok(()))
    }

    /// Renews until that fails for too long; the time until which the Lease is still respected by others.
    async fn renew(&mut self, mut renewed: Instant) -> Instant {
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let begun = Instant::now();
            let deadline = renewed + self.config.renew_deadline;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                // Another one holds it: it was taken from us.
                Ok(Ok(false)) => return Instant::now(),
                Ok(Err(error)) => tracing::info!(lease = self.config.name, %error, "cannot renew the Lease"),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return renewed + self.config.lease_duration;
            }
        }
    }

    /// One try to become or stay the leader; whether we are.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        // A leader that knows the state writes at once; if somebody interfered, it looks.
        if self.leads() && self.resource_version.is_some() {
            match self.advance().await {
                Err(error) if is_overtaken(&error) => {}
                result => return result,
            }
        }
        match self.leases.get_opt(&self.config.name).await? {
            Some(lease) => self.saw(lease),
            None => (self.observed, self.resource_version) = (None, None),
        }
        match self.advance().await {
            Err(error) if is_overtaken(&error) => Ok(false),
            result => result,
        }
    }

    async fn advance(&mut self) -> Result<bool, kube::Error> {
        let step = protocol::next(&self.config, self.observed.as_ref(), Instant::now(), Timestamp::now());
        let Step::Write(spec) = step else {
            return Ok(false);
        };
        self.write(spec).await?;
        Ok(true)
    }

    async fn write(&mut self, spec: LeaseSpec) -> Result<(), kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                resource_version: self.resource_version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let params = PostParams::default();
        let written = match &self.resource_version {
            None => self.leases.create(&params, &lease).await?,
            Some(_) => self.leases.replace(&self.config.name, &params, &lease).await?,
        };
        self.saw(written);
        Ok(())
    }

    fn saw(&mut self, lease: Lease) {
        self.resource_version = lease.metadata.resource_version;
        let spec = lease.spec.unwrap_or_default();
        self.observed = Some(protocol::observe(self.observed.take(), spec, Instant::now()));
    }

    fn leads(&self) -> bool {
        let observed = self.observed.as_ref();
        observed.is_some_and(|observed| protocol::is_held_by(&observed.spec, &self.config.identity))
    }

    async fn release(&mut self) {
        let Some(observed) = self.observed.as_ref().filter(|_| self.leads()) else {
            return;
        };
        let spec = protocol::released(&observed.spec, Timestamp::now());
        match tokio::time::timeout(RELEASE_LIMIT, self.write(spec)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(lease = self.config.name, %error, "the Lease is not released"),
            Err(_) => tracing::info!(lease = self.config.name, "the Lease is not released in time"),
        }
    }
}

/// Somebody else wrote first.
fn is_overtaken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}
