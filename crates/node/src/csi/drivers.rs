//! The drivers that are known, and the locks of their volumes.

use csi::v1::node_client::NodeClient;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;

/// A driver that has just been started is waited for this long.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A driver and what it can do.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    /// Its name.
    pub(crate) name: String,
    /// Its registration socket.
    pub(crate) registered_by: PathBuf,
    /// The way to it.
    pub(crate) channel: Channel,
    /// What it calls this node.
    pub(crate) node_id: String,
    /// Where this node is, in its terms.
    pub(crate) topology: BTreeMap<String, String>,
    /// How many volumes it can have on this node, if it says so.
    pub(crate) volumes_max: Option<i32>,
    /// Volumes are staged before they are published.
    pub(crate) stages: bool,
    /// Volumes grow on the node, too.
    pub(crate) expands: bool,
    /// It gives volumes to a group itself.
    pub(crate) mounts_for_group: bool,
    /// It tells how full volumes are.
    pub(crate) tells_stats: bool,
    /// It knows access for one writer from access for one node.
    pub(crate) knows_single_writer: bool,
}

impl Driver {
    /// Calls of its node service.
    pub(crate) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }
}

/// All drivers that are known.
#[derive(Clone, Debug)]
pub(crate) struct Drivers {
    known: Arc<watch::Sender<BTreeMap<String, Arc<Driver>>>>,
    locks: Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>,
    telling: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Drivers {
    fn default() -> Self {
        Self {
            known: Arc::new(watch::channel(BTreeMap::new()).0),
            locks: Arc::default(),
            telling: Arc::default(),
        }
    }
}

impl Drivers {
    /// Takes a driver up, or what it has become.
    pub(crate) fn add(&self, driver: Driver) {
        self.known
            .send_modify(|known| drop(known.insert(driver.name.clone(), Arc::new(driver))));
    }

    /// Forgets a driver.
    pub(crate) fn remove(&self, name: &str) {
        self.known.send_modify(|known| drop(known.remove(name)));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Driver>> {
        self.known.borrow().values().cloned().collect()
    }

    /// A driver, once it is known.
    ///
    /// # Errors
    /// It does not become known in time.
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<Driver>, String> {
        let mut known = self.known.subscribe();
        let found = tokio::time::timeout(KNOWN_TIMEOUT, known.wait_for(|known| known.contains_key(name))).await;
        let driver = found
            .ok()
            .and_then(Result::ok)
            .and_then(|known| known.get(name).cloned());
        driver.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    /// Labels by which volumes may ask for this node.
    pub(crate) fn topology(&self) -> BTreeMap<String, String> {
        let known = self.known.borrow();
        let all = known.values().flat_map(|driver| driver.topology.clone());
        all.collect()
    }

    /// The lock of what the API is told: one at a time tells what it knows, so that nobody tells what is over.
    pub(crate) async fn telling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.telling.lock().await
    }

    /// The lock of one volume: whoever stages, publishes or takes back holds it.
    pub(crate) fn lock(&self, driver: &str, handle: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{driver}/{handle}");
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}
