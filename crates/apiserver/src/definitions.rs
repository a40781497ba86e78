//! CustomResourceDefinitions at work: they make kinds that are served, and when they end, their objects go with them.
//!
//! ```text
//!  store ──watch──▶ definitions ──names free?──▶ kinds served ──▶ condition Established
//!                        └────── being deleted ──▶ objects deleted ──▶ finalizer removed
//! ```
//!
//! A definition's kinds are served before its status says so: who waits for `Established` finds them.

use crate::admission::kind;
use crate::bootstrap::own_call;
use crate::clock;
use crate::delete::{self, DeleteOptions};
use crate::names;
use crate::server::Server;
use crate::status::{Outcome, status, store_failed};
use crate::stored::Stored;
use crate::update::{self, Part, Proposed};
use api::custom::{self, CLEANUP_FINALIZER};
use api::error::Status;
use api::kinds::{self, Kind, KindRef};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;
use store::{Event, RangeRequest, Revision};

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The custom resources that are served.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// By group, version (the preferred one first) and resource.
    pub(crate) kinds: Vec<Arc<Kind>>,
}

/// What is served beside the kinds of the table.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    served: RwLock<Arc<Served>>,
}

impl Definitions {
    /// The custom resources that are served now.
    pub(crate) fn served(&self) -> Arc<Served> {
        self.served
            .read()
            .expect("nothing panics while it holds the kinds")
            .clone()
    }

    /// The kind of a path, of the table or custom.
    pub(crate) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        if let Some(kind) = kinds::by_resource(group, version, plural) {
            return Some(kind.into());
        }
        let served = self.served();
        let found = served
            .kinds
            .iter()
            .find(|kind| kind.plural == plural && kind.group == group && kind.version == version);
        found.map(|kind| KindRef::Custom(kind.clone()))
    }

    fn serve<'a>(&self, definitions: impl Iterator<Item = &'a Definition>) {
        let mut kinds: Vec<Arc<Kind>> = definitions.flat_map(|one| one.kinds.iter().cloned()).collect();
        // What the table serves is not taken over.
        kinds.retain(|kind| kinds::by_resource(kind.group, kind.version, kind.plural).is_none());
        kinds.sort_by_key(|kind| (kind.group, rank(kind.version), kind.plural));
        *self.served.write().expect("nothing panics while it holds the kinds") = Arc::new(Served { kinds });
    }
}

/// A definition, and the kinds that it makes.
struct Definition {
    /// Without its schemas, which can be large.
    head: Value,
    kinds: Vec<Arc<Kind>>,
}

impl Definition {
    fn of(mut whole: Value) -> Self {
        let kinds = custom::kinds(&whole).into_iter().map(Arc::new).collect();
        for version in whole["spec"]["versions"].as_array_mut().into_iter().flatten() {
            version["schema"] = Value::Null;
        }
        Self { head: whole, kinds }
    }
}

/// Orders versions as clients prefer them: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then all others by name.
fn rank(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>, &str) {
    use std::cmp::Reverse;
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (0, "0"),
            rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor),
                (_, Some(minor)) => (2, minor),
                _ => return None,
            },
        };
        Some((stage, major, minor.parse::<u32>().ok()?))
    });
    match parsed {
        Some((stage, major, minor)) => (stage, Reverse(major), Reverse(minor), ""),
        None => (3, Reverse(0), Reverse(0), version),
    }
}

/// 405 for a new object of a resource that ends.
pub(crate) fn no_create() -> Box<Status> {
    let message = "create not allowed while custom resource definition is terminating";
    status(405, "MethodNotAllowed", message, Value::Null)
}

/// All definitions as of a revision.
pub(crate) struct Known {
    by_name: BTreeMap<String, Definition>,
    revision: Revision,
}

fn definitions() -> &'static Kind {
    kind(custom::GROUP, "customresourcedefinitions")
}

/// Reads all definitions and serves them.
pub(crate) async fn load(server: &Arc<Server>) -> Outcome<Known> {
    let prefix = names::kind_prefix(definitions());
    let request = RangeRequest {
        end: store::prefix_end(&prefix),
        start: prefix,
        revision: None,
        limit: 0,
    };
    let found = server
        .store
        .range(request)
        .await
        .map_err(|error| store_failed(&error))?;
    let mut by_name = BTreeMap::new();
    for kv in &found.kvs {
        let definition = Stored::from(kv).object(definitions())?;
        by_name.insert(name_of(&definition), Definition::of(definition));
    }
    server.definitions.serve(by_name.values());
    let revision = found.revision;
    Ok(Known { by_name, revision })
}

fn name_of(definition: &Value) -> String {
    definition["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Follows the definitions until the server is gone.
pub(crate) async fn follow(server: Weak<Server>, mut known: Known) {
    let mut ending = BTreeSet::new();
    loop {
        let Some(strong) = server.upgrade() else { return };
        settle_all(&strong, &mut known, &mut ending).await;
        let prefix = names::kind_prefix(definitions());
        let watch = strong.store.watch(&prefix, known.revision).await;
        drop(strong);
        let Ok(mut watch) = watch else {
            tokio::time::sleep(RETRY).await;
            let Some(strong) = server.upgrade() else { return };
            if let Ok(fresh) = load(&strong).await {
                known = fresh;
            }
            continue;
        };
        while let Some(Ok(batch)) = watch.next().await {
            known.revision = known.revision.max(batch.revision);
            if batch.events.is_empty() {
                continue;
            }
            let Some(strong) = server.upgrade() else { return };
            for event in &batch.events {
                take(&mut known, &mut ending, event);
            }
            strong.definitions.serve(known.by_name.values());
            settle_all(&strong, &mut known, &mut ending).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn take(known: &mut Known, ending: &mut BTreeSet<String>, event: &Event) {
    match event {
        Event::Put { kv, .. } => match Stored::from(kv).object(definitions()) {
            Ok(definition) => {
                known.by_name.insert(name_of(&definition), Definition::of(definition));
            }
            Err(status) => tracing::error!("a definition cannot be read: {}", status.message),
        },
        Event::Delete { previous, .. } => {
            let name = previous.key.rsplit('/').next().unwrap_or_default();
            known.by_name.remove(name);
            ending.remove(name);
        }
    }
}

/// Brings the status of each definition up to date, and begins the end of those that are being deleted.
async fn settle_all(server: &Arc<Server>, known: &mut Known, ending: &mut BTreeSet<String>) {
    let names: Vec<String> = known.by_name.keys().cloned().collect();
    for name in names {
        let definition = &known.by_name[&name].head;
        if !definition["metadata"]["deletionTimestamp"].is_null() {
            if ending.insert(name.clone()) {
                server.spawn(end(Arc::downgrade(server), name));
            }
            continue;
        }
        let others = known.by_name.iter().filter(|(other, _)| **other != name);
        let others: Vec<&Value> = others.map(|(_, definition)| &definition.head).collect();
        let Some(settled) = custom::settle(definition, &others, &clock::now_text()) else {
            continue;
        };
        if let Err(status) = establish(server, known, &name, &settled).await {
            tracing::warn!("the definition {name} cannot be established: {}", status.message);
        }
    }
}

/// Serves a definition with its new status, then writes the status.
async fn establish(server: &Arc<Server>, known: &mut Known, name: &str, settled: &Value) -> Outcome<()> {
    let Some(kv) = server.read(definitions(), "", name).await? else {
        return Ok(());
    };
    let mut definition = Stored::from(&kv).object(definitions())?;
    definition["status"] = settled.clone();
    known.by_name.insert(name.to_owned(), Definition::of(definition));
    server.definitions.serve(known.by_name.values());
    write_status(server, name, settled).await
}

async fn write_status(server: &Arc<Server>, name: &str, settled: &Value) -> Outcome<()> {
    let mut call = own_call(definitions(), "", name);
    call.subresource = "status".to_owned();
    let changed = update::change(server, &mut call, Part::Status, |_, current| {
        let mut next = current.clone();
        // Who noted a stored version or an end meanwhile is not overruled.
        for field in ["acceptedNames", "conditions"] {
            next["status"][field] = settled[field].clone();
        }
        Ok(Proposed::tracked(next))
    });
    match changed.await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Deletes all objects of a definition, then lets go of it.
async fn end(server: Weak<Server>, name: String) {
    loop {
        let Some(strong) = server.upgrade() else { return };
        let watch = match try_end(&strong, &name).await {
            Ok(None) => return,
            Ok(Some(watch)) => Some(watch),
            Err(status) => {
                tracing::warn!(
                    "the objects of the definition {name} cannot be deleted: {}",
                    status.message
                );
                None
            }
        };
        drop(strong);
        match watch {
            // What finalizers keep goes when they are gone.
            Some(mut watch) => {
                let changed = async {
                    while let Some(Ok(batch)) = watch.next().await {
                        if !batch.events.is_empty() {
                            return;
                        }
                    }
                };
                tokio::time::timeout(RETRY * 30, changed).await.unwrap_or_default();
            }
            None => tokio::time::sleep(RETRY).await,
        }
    }
}

/// One try to empty a resource; the watch by which to learn of changes if something is left.
async fn try_end(server: &Arc<Server>, name: &str) -> Outcome<Option<Box<dyn store::Watch>>> {
    let Some(kv) = server.read(definitions(), "", name).await? else {
        return Ok(None);
    };
    let definition = Stored::from(&kv).object(definitions())?;
    let established = custom::is_true(&definition, "Established");
    if let Some(kind) = custom::stored_kind(&definition).filter(|_| established) {
        let kind = KindRef::Custom(Arc::new(kind));
        for object in server.read_all(&kind).await? {
            let metadata = object.metadata();
            let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str());
            let call = own_call(kind.clone(), namespace.unwrap_or_default(), "");
            match delete::remove(server, &call, name.unwrap_or_default(), &DeleteOptions::default()).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
        let revision = server.store.revision().await.map_err(|error| store_failed(&error))?;
        if !server.read_all(&kind).await?.is_empty() {
            let watch = server.store.watch(&names::kind_prefix(&kind), revision).await;
            return watch.map(Some).map_err(|error| store_failed(&error));
        }
    }
    release(server, name).await.map(|()| None)
}

async fn release(server: &Arc<Server>, name: &str) -> Outcome<()> {
    let mut call = own_call(definitions(), "", name);
    let changed = update::change(server, &mut call, Part::Main, |_, current| {
        let mut next = current.clone();
        if let Some(finalizers) = next["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|one| one != CLEANUP_FINALIZER);
        }
        Ok(Proposed::tracked(next))
    });
    match changed.await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "v1", "foo", "v2beta1", "v10", "v2", "v1beta2", "v1beta1"];
        versions.sort_by_key(|version| rank(version));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha1", "foo"]
        );
    }
}
