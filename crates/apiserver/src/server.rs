//! The server: its store, its configuration, and what all requests share.

use crate::audit::Audit;
use crate::authz::Access;
use crate::bootstrap;
use crate::compaction;
use crate::computed::resource_metrics::ResourceMetrics;
use crate::config::Config;
use crate::definitions::{self, Definitions};
use crate::dispatch;
use crate::event_lease::EventLease;
use crate::follow::Followed;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::peers::Presence;
use crate::policies::{self, Policies};
use crate::rbac::aggregation;
use crate::stream::Encodings;
use crate::tokens::keys::KeyError;
use crate::tokens::{self, Issuer};
use api::error::Status;
use std::sync::{Arc, Mutex};
use store::Store;
use tokio::task::JoinSet;

/// The Kubernetes API on top of a store. Dropping it and its routers ends its background work.
#[derive(Clone, Debug)]
pub struct ApiServer {
    server: Arc<Server>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The audit log cannot be opened.
    #[error("the audit log cannot be opened")]
    Audit(#[source] std::io::Error),
    /// The keys of service-account tokens cannot be used.
    #[error("the keys of service-account tokens cannot be used")]
    Keys(#[from] KeyError),
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] store::Error),
    /// The objects that every cluster has cannot be made.
    #[error("the objects that every cluster has cannot be made: {}", .0.message)]
    Bootstrap(Box<Status>),
}

impl ApiServer {
    /// Makes a server; creates the objects that every cluster has, where they are absent.
    ///
    /// # Errors
    /// When the store fails or holds objects that contradict the configuration.
    pub async fn new(store: Arc<dyn Store>, config: Config) -> Result<Self, StartError> {
        let audit = config
            .audit
            .as_ref()
            .map(Audit::open)
            .transpose()
            .map_err(StartError::Audit)?;
        let (audit, writer) = audit.unzip();
        let issuer = tokens::issuer(&config)?;
        let access = Access::open(store.as_ref()).await?;
        let policies = Followed::open(store.as_ref(), policies::PREFIX, Policies::default()).await?;
        let server = Arc::new(Server {
            access,
            issuer,
            audit,
            in_flight: InFlight::new(config.max_requests_inflight, config.max_mutating_requests_inflight),
            store,
            config,
            encodings: Encodings::default(),
            event_lease: EventLease::default(),
            presence: Presence::default(),
            documents: Documents::default(),
            definitions: Definitions::default(),
            policies,
            metrics: Metrics::default(),
            resource_metrics: ResourceMetrics::default(),
            tasks: Mutex::default(),
        });
        server.access.follow(
            &server.store,
            &mut server.tasks.lock().expect("nothing panics while it holds the tasks"),
        );
        server.spawn(Followed::run(
            Arc::downgrade(&server.policies),
            Arc::clone(&server.store),
        ));
        bootstrap::run(&server).await.map_err(StartError::Bootstrap)?;
        let definitions = definitions::load(&server).await.map_err(StartError::Bootstrap)?;
        server.spawn(definitions::follow(Arc::downgrade(&server), definitions));
        let compaction = compaction::run(Arc::downgrade(&server), server.config.clone());
        server.spawn(compaction);
        if let Some(writer) = writer {
            server.spawn(writer);
        }
        server.spawn(aggregation::run(Arc::downgrade(&server)));
        server.spawn(bootstrap::upkeep(Arc::downgrade(&server)));
        Ok(Self { server })
    }

    /// The HTTP service. It expects a [`crate::User`] in each request's extensions; without one the request is
    /// anonymous.
    pub fn router(&self) -> axum::Router {
        dispatch::router(self.server.clone())
    }
}

/// What all requests share.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: Config,
    pub(crate) issuer: Issuer,
    pub(crate) audit: Option<Audit>,
    pub(crate) in_flight: InFlight,
    pub(crate) access: Access,
    pub(crate) encodings: Encodings,
    pub(crate) event_lease: EventLease,
    pub(crate) presence: Presence,
    pub(crate) documents: Documents,
    pub(crate) definitions: Definitions,
    pub(crate) policies: Arc<Followed<Policies>>,
    pub(crate) metrics: Metrics,
    pub(crate) resource_metrics: ResourceMetrics,
    /// Background work; ends with the server.
    tasks: Mutex<JoinSet<()>>,
}

impl Server {
    /// Runs a task that may live as long as the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("nothing panics while it holds the tasks");
        // Those that have ended are let go of.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
