//! Follows claims and volumes, and works on each until it is as it should be.

use crate::driver::Driver;
use crate::{claims, volumes};
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use futures::StreamExt;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Calls of the driver at a time, for claims and for volumes each.
const CALLS_MAX: u16 = 4;
/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// Between two tries to reach the driver.
const DRIVER_RETRY: Duration = Duration::from_millis(200);
/// How long the driver may take to say who it is.
const DRIVER_ANSWER: Duration = Duration::from_secs(10);

/// What it is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The driver's socket.
    pub socket: PathBuf,
    /// The node that the driver works on.
    pub node_name: String,
    /// Names by which classes may call the driver, beside its own.
    pub other_names: Vec<String>,
}

/// What all work shares.
pub(crate) struct Context {
    /// The API.
    pub(crate) client: Client,
    /// The driver.
    pub(crate) driver: Driver,
    /// The node.
    pub(crate) node_name: String,
    /// Names of the driver in classes.
    pub(crate) names: Vec<String>,
    recorder: Recorder,
    /// The end of all work.
    pub(crate) shutdown: CancellationToken,
}

/// Why work is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API.
    #[error("the API refused or did not answer")]
    Api(#[from] kube::Error),
    /// The driver, or what it is asked; people were told.
    #[error("{0}")]
    Told(String),
}

/// Works until `shutdown`.
///
/// # Errors
/// A watch has ended.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Some(driver) = reach(&config, &shutdown).await else {
        return Ok(());
    };
    let name = driver.name.clone();
    let reporter = Reporter {
        controller: name.clone(),
        instance: Some(config.node_name.clone()),
    };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        names: [name.clone()].into_iter().chain(config.other_names).collect(),
        node_name: config.node_name,
        driver,
        client: client.clone(),
        shutdown: shutdown.clone(),
    });
    let settings = || controller::Config::default().concurrency(CALLS_MAX);
    let claims = Controller::new(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .with_config(settings())
    .graceful_shutdown_on(shutdown.clone().cancelled_owned())
    .run(claims::reconcile, again::<PersistentVolumeClaim>, context.clone());
    let volumes = Controller::new(Api::<PersistentVolume>::all(client), watcher::Config::default())
        .with_config(settings())
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(volumes::reconcile, again::<PersistentVolume>, context);
    tracing::info!(driver = name, "makes volumes for claims of this node");
    let claims = claims.for_each(|done| async {
        drop(done.inspect_err(|error| tracing::debug!(%error, "a claim is not as it should be")));
    });
    let volumes = volumes.for_each(|done| async {
        drop(done.inspect_err(|error| tracing::debug!(%error, "a volume is not as it should be")));
    });
    futures::join!(claims, volumes);
    anyhow::ensure!(shutdown.is_cancelled(), "the watches of claims and volumes ended");
    Ok(())
}

/// Waits for the driver.
async fn reach(config: &Config, shutdown: &CancellationToken) -> Option<Driver> {
    loop {
        let asked = tokio::time::timeout(DRIVER_ANSWER, Driver::reach(&config.socket));
        let answer = tokio::select! {
            () = shutdown.cancelled() => return None,
            answer = asked => answer,
        };
        match answer {
            Ok(Ok(driver)) => return Some(driver),
            Ok(Err(status)) => tracing::debug!(error = %status, "the driver does not answer yet"),
            Err(_) => tracing::debug!("the driver took the question and says nothing"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(DRIVER_RETRY) => {}
        }
    }
}

fn again<K>(_: Arc<K>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(RETRY)
}

impl Context {
    /// Tells people of an object. What they are not told is no reason not to work.
    pub(crate) async fn tell<K>(&self, about: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about.object_ref(&())).await {
            tracing::debug!(%error, reason, "an event was not told");
        }
    }

    /// Tells people of a failure.
    pub(crate) async fn fail<K>(&self, about: &K, reason: &str, why: String) -> Error
    where
        K: Resource<DynamicType = ()>,
    {
        self.tell(about, EventType::Warning, reason, &why).await;
        Error::Told(why)
    }
}
