//! The table of controllers. A controller is a row: what it watches, and its plan.
//!
//! To add one: write the pure planner in `controllers-plan`, and here a file with `pub(crate) fn row() -> Row`.

use controllers_plan::{AnyObject, Key, Plan};
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;

use crate::Config;
use crate::cache::MapToKeys;
use crate::caches::{Caches, Watch};

pub(crate) mod attach_detach;
pub(crate) mod certificates;
pub(crate) mod claims;
pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod endpoints;
pub(crate) mod garbage;
pub(crate) mod job;
pub(crate) mod namespaces;
pub(crate) mod nodes;
pub(crate) mod quota;
pub(crate) mod replicaset;
pub(crate) mod service_accounts;
pub(crate) mod statefulset;

mod keys;

/// Gathers what is observed of an object from the caches, and plans. An object that is gone has an empty plan.
pub(crate) type Decide = Box<dyn Fn(&Caches, &Key, Timestamp) -> Plan + Send + Sync>;

/// What is asked of the server before a key is planned, because no cache can know it.
pub(crate) type Prepare = for<'a> fn(&'a Client, &'a Caches, &'a Key) -> BoxFuture<'a, ()>;

/// What a controller asks before it plans, if it asks anything.
pub(crate) fn preparation(controller: &str) -> Option<Prepare> {
    match controller {
        disruption::NAME => Some(disruption::scales::look_up),
        certificates::APPROVER => Some(certificates::look_up),
        _ => None,
    }
}

/// Which of its objects a change of a custom resource concerns, for a controller that watches all of those.
pub(crate) fn of_custom(controller: &str) -> Option<MapToKeys<AnyObject>> {
    match controller {
        garbage::NAME => Some(garbage::concerned),
        namespaces::NAME => Some(namespaces::namespace_of),
        quota::NAME => Some(quota::of_head),
        _ => None,
    }
}

/// One controller.
pub(crate) struct Row {
    /// The name in the configuration, in events (`source.component`) and as field manager, e.g.
    /// `statefulset-controller`.
    pub(crate) name: &'static str,
    /// The kinds it watches. Its plans wait until these have been listed, and until they show its own last writes.
    pub(crate) watches: Vec<Watch>,
    /// Observes and plans.
    pub(crate) decide: Decide,
}

/// The rows that the configuration enables.
pub(crate) fn rows(config: &Config) -> Vec<Row> {
    let mut rows = vec![
        statefulset::row(config),
        claims::row(),
        claims::claim_protection_row(),
        claims::volume_protection_row(),
        claims::ephemeral_row(),
        attach_detach::row(),
        endpoints::row(),
        endpoints::legacy_row(),
        endpoints::mirroring_row(),
        garbage::row(),
        namespaces::row(),
        service_accounts::account_row(),
        replicaset::row(),
        replicaset::replication_controller_row(),
        deployment::row(),
        daemonset::row(),
        disruption::row(),
        nodes::lifecycle_row(),
        nodes::eviction_row(),
        nodes::garbage_row(),
        quota::row(),
        job::row(),
        job::cron_job_row(),
        job::ttl_row(),
        certificates::approving_row(),
        certificates::cleaning_row(),
    ];
    rows.extend(config.signer.clone().map(certificates::signing_row));
    rows.extend(config.root_ca.clone().map(service_accounts::root_ca_row));
    rows.into_iter().filter(|row| config.is_enabled(row.name)).collect()
}
