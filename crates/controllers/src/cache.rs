//! What the server has told us of one kind: an indexed store fed by one watch and shared by all controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use controllers_plan::{AnyObject, Key, ObjectName};
use tokio::sync::watch;

use crate::caches::Caches;

/// What a cache must know of its objects.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) name: ObjectName,
    pub(crate) uid: &'a str,
    pub(crate) version: &'a str,
    pub(crate) owners: &'a [OwnerReference],
    pub(crate) is_terminating: bool,
}

impl Facts<'_> {
    pub(crate) fn of_meta(meta: &ObjectMeta) -> Facts<'_> {
        Facts {
            name: ObjectName::of(meta),
            uid: meta.uid.as_deref().unwrap_or_default(),
            version: meta.resource_version.as_deref().unwrap_or_default(),
            owners: meta.owner_references.as_deref().unwrap_or_default(),
            is_terminating: meta.deletion_timestamp.is_some(),
        }
    }

    pub(crate) fn of_any(object: &AnyObject) -> Facts<'_> {
        Facts {
            name: object.name.clone(),
            uid: &object.uid,
            version: &object.resource_version,
            owners: &object.owner_references,
            is_terminating: object.is_terminating,
        }
    }

    /// The owner that controls the object, if there is one.
    fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.controller == Some(true))
    }
}

/// What happened to one object.
#[derive(Debug)]
pub(crate) struct Change<T> {
    /// The object before; `None` if it is new.
    pub(crate) old: Option<Arc<T>>,
    /// The object after; `None` if it is gone.
    pub(crate) new: Option<Arc<T>>,
}

impl<T> Change<T> {
    /// The states there are: before and after.
    pub(crate) fn states(&self) -> impl Iterator<Item = &Arc<T>> {
        self.old.iter().chain(self.new.iter())
    }

    /// The latest state there is.
    pub(crate) fn latest(&self) -> &Arc<T> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has at least one side")
    }
}

/// The terms by which an object is to be found.
pub(crate) type Terms<T> = fn(&T) -> Vec<String>;

/// Which objects one controller has to look at after a change.
pub(crate) type MapToKeys<T> = fn(&Caches, &Change<T>) -> Vec<Key>;

/// How far a cache has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) lists_begun: u64,
    pub(crate) lists_done: u64,
    pub(crate) newest: u64,
}

/// The objects of one kind as last seen, by name, by namespace and by owner.
pub(crate) struct Cache<T> {
    facts: fn(&T) -> Facts<'_>,
    /// The only name that objects may have here; `None` if all objects of the kind are watched.
    only: Option<&'static str>,
    state: RwLock<State<T>>,
    listeners: Mutex<Vec<(usize, MapToKeys<T>)>>,
    indexes: Mutex<Vec<(&'static str, Terms<T>)>>,
    progress: watch::Sender<Progress>,
}

struct State<T> {
    objects: BTreeMap<ObjectName, Arc<T>>,
    by_owner: BTreeMap<String, BTreeSet<ObjectName>>,
    by_term: BTreeMap<String, BTreeSet<ObjectName>>,
    uncontrolled: BTreeSet<ObjectName>,
    listed: Option<BTreeSet<ObjectName>>,
}

impl<T> Cache<T> {
    /// An empty cache; `facts` reads an object.
    pub(crate) fn new(facts: fn(&T) -> Facts<'_>) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            by_term: BTreeMap::new(),
            uncontrolled: BTreeSet::new(),
            listed: None,
        };
        Self {
            facts,
            only: None,
            state: RwLock::new(state),
            listeners: Mutex::new(Vec::new()),
            indexes: Mutex::new(Vec::new()),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// An empty cache of the objects of one name, in all namespaces.
    pub(crate) fn of_name(name: &'static str, facts: fn(&T) -> Facts<'_>) -> Self {
        Self {
            only: Some(name),
            ..Self::new(facts)
        }
    }

    /// The only name that objects may have here, if there is one.
    pub(crate) fn only(&self) -> Option<&'static str> {
        self.only
    }

    /// The object of this name. The namespace of cluster-wide objects is empty.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.read().objects.get(&ObjectName::new(namespace, name)).cloned()
    }

    /// All objects of a namespace, by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = ObjectName::new(namespace, "");
        let state = self.read();
        state
            .objects
            .range(from..)
            .take_while(|(name, _)| name.namespace() == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// All objects of a namespace whose names begin so, by name.
    pub(crate) fn with_prefix(&self, namespace: &str, prefix: &str) -> Vec<Arc<T>> {
        let from = ObjectName::new(namespace, prefix);
        let state = self.read();
        state
            .objects
            .range(from..)
            .take_while(|(name, _)| begins(name, namespace, prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// All objects, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.read().objects.values().cloned().collect()
    }

    /// All objects with an owner reference (controlling or not) to this uid.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Arc<T>> {
        let state = self.read();
        let names = state.by_owner.get(uid).into_iter().flatten();
        names.filter_map(|name| state.objects.get(name).cloned()).collect()
    }

    /// All objects that this uid controls.
    pub(crate) fn controlled_by(&self, uid: &str) -> Vec<Arc<T>> {
        let owned = self.owned_by(uid).into_iter();
        owned
            .filter(|o| (self.facts)(o).controller().is_some_and(|owner| owner.uid == uid))
            .collect()
    }

    /// All objects that this uid controls, except those that [`Cache::with_prefix`] gives anyway.
    pub(crate) fn controlled_besides(&self, uid: &str, namespace: &str, prefix: &str) -> Vec<Arc<T>> {
        let state = self.read();
        let names = state.by_owner.get(uid).into_iter().flatten();
        let others = names.filter(|name| !begins(name, namespace, prefix));
        let objects = others.filter_map(|name| state.objects.get(name));
        let controls = |object: &T| (self.facts)(object).controller().is_some_and(|owner| owner.uid == uid);
        objects.filter(|object| controls(object)).cloned().collect()
    }

    /// All objects of a namespace that have no controller.
    pub(crate) fn uncontrolled_in(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = ObjectName::new(namespace, "");
        let state = self.read();
        let names = state
            .uncontrolled
            .range(from..)
            .take_while(|name| name.namespace() == namespace);
        names.filter_map(|name| state.objects.get(name).cloned()).collect()
    }

    /// All objects that are indexed by a term.
    pub(crate) fn with_term(&self, term: &str) -> Vec<Arc<T>> {
        let state = self.read();
        let names = state.by_term.get(term).into_iter().flatten();
        names.filter_map(|name| state.objects.get(name).cloned()).collect()
    }

    /// How many objects are indexed by a term.
    pub(crate) fn count(&self, term: &str) -> usize {
        self.read().by_term.get(term).map_or(0, BTreeSet::len)
    }

    /// Adds an index, unless there is one of that name. Only before the first object comes.
    pub(crate) fn index(&self, name: &'static str, terms: Terms<T>) {
        let mut indexes = self.indexes.lock().expect("no panic while held");
        if indexes.iter().all(|(known, _)| *known != name) {
            indexes.push((name, terms));
        }
    }

    fn terms(&self, object: &T) -> Vec<String> {
        let indexes = self.indexes.lock().expect("no panic while held");
        indexes.iter().flat_map(|(_, terms)| terms(object)).collect()
    }

    /// What this cache knows of an object.
    pub(crate) fn facts<'a>(&self, object: &'a T) -> Facts<'a> {
        (self.facts)(object)
    }

    pub(crate) fn listen(&self, row: usize, map: MapToKeys<T>) {
        self.listeners.lock().expect("no panic while held").push((row, map));
    }

    /// The rows and keys that a change concerns.
    pub(crate) fn concerned(&self, caches: &Caches, change: &Change<T>) -> Vec<(usize, Key)> {
        let listeners = self.listeners.lock().expect("no panic while held").clone();
        listeners
            .iter()
            .flat_map(|(row, map)| map(caches, change).into_iter().map(|key| (*row, key)))
            .collect()
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// A list of everything begins.
    pub(crate) fn begin_list(&self) {
        self.write().listed = Some(BTreeSet::new());
        self.progress.send_modify(|progress| progress.lists_begun += 1);
    }

    /// The list is complete: what it did not name is gone.
    pub(crate) fn end_list(&self) -> Vec<Change<T>> {
        let mut state = self.write();
        let listed = state.listed.take().unwrap_or_default();
        let gone: Vec<ObjectName> = state
            .objects
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        let changes = gone
            .iter()
            .map(|name| Change {
                old: self.take(&mut state, name),
                new: None,
            })
            .collect();
        drop(state);
        self.progress
            .send_modify(|progress| progress.lists_done = progress.lists_begun);
        changes
    }

    /// An object is new or changed. `None` if this very version is known already.
    pub(crate) fn apply(&self, object: T) -> Option<Change<T>> {
        let facts = (self.facts)(&object);
        let (name, version) = (facts.name.clone(), number_of(facts.version));
        let mut state = self.write();
        if let Some(listed) = &mut state.listed {
            listed.insert(name.clone());
        }
        let known = state.objects.get(&name).map(|known| (self.facts)(known));
        if known.is_some_and(|known| known.uid == facts.uid && known.version == facts.version) {
            drop(state);
            self.advance(version);
            return None;
        }
        let old = self.take(&mut state, &name);
        for owner in facts.owners {
            let owned = state.by_owner.entry(owner.uid.clone()).or_default();
            owned.insert(name.clone());
        }
        for term in self.terms(&object) {
            state.by_term.entry(term).or_default().insert(name.clone());
        }
        if facts.controller().is_none() {
            state.uncontrolled.insert(name.clone());
        }
        let new = Arc::new(object);
        state.objects.insert(name, new.clone());
        drop(state);
        self.advance(version);
        Some(Change { old, new: Some(new) })
    }

    /// An object is gone; `last` is its last state.
    pub(crate) fn remove(&self, last: T) -> Change<T> {
        let facts = (self.facts)(&last);
        let (name, version) = (facts.name, number_of(facts.version));
        let mut state = self.write();
        let old = self.take(&mut state, &name);
        drop(state);
        self.advance(version);
        Change {
            old: old.or_else(|| Some(Arc::new(last))),
            new: None,
        }
    }

    fn take(&self, state: &mut State<T>, name: &ObjectName) -> Option<Arc<T>> {
        let old = state.objects.remove(name)?;
        for owner in (self.facts)(&old).owners {
            forget(&mut state.by_owner, &owner.uid, name);
        }
        for term in self.terms(&old) {
            forget(&mut state.by_term, &term, name);
        }
        state.uncontrolled.remove(name);
        Some(old)
    }

    fn advance(&self, version: u64) {
        self.progress.send_if_modified(|progress| {
            let newer = version > progress.newest;
            progress.newest = progress.newest.max(version);
            newer
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().expect("no panic while held")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().expect("no panic while held")
    }
}

/// Whether an object is of this namespace and its name begins so.
fn begins(name: &ObjectName, namespace: &str, prefix: &str) -> bool {
    name.namespace() == namespace && name.name().starts_with(prefix)
}

/// Takes a name out of an index.
fn forget(index: &mut BTreeMap<String, BTreeSet<ObjectName>>, term: &str, name: &ObjectName) {
    if let Some(names) = index.get_mut(term) {
        names.remove(name);
        if names.is_empty() {
            index.remove(term);
        }
    }
}

/// The resourceVersion as a number: of one kind, later is larger (KEP-5504). 0 if it is none.
fn number_of(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(namespace: &str, name: &str, version: &str, owners: Value) -> Pod {
        let metadata = json!({
            "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"), "resourceVersion": version,
            "ownerReferences": owners,
        });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn owner(uid: &str, controller: bool) -> Value {
        json!({ "apiVersion": "v1", "kind": "X", "name": uid, "uid": uid, "controller": controller })
    }

    fn cache() -> Cache<Pod> {
        Cache::new(|pod| Facts::of_meta(&pod.metadata))
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn objects_are_found_by_name_namespace_prefix_and_owner() {
        let cache = cache();
        cache.apply(pod("a", "web-0", "1", json!([owner("set", true)])));
        cache.apply(pod("a", "web-1", "2", json!([owner("set", false)])));
        cache.apply(pod("a", "x", "3", json!([])));
        cache.apply(pod("b", "web-0", "4", json!([owner("other", true)])));
        assert_eq!(names(&cache.in_namespace("a")), ["web-0", "web-1", "x"]);
        assert_eq!(names(&cache.with_prefix("a", "web-")), ["web-0", "web-1"]);
        assert_eq!(names(&cache.owned_by("set")), ["web-0", "web-1"]);
        assert_eq!(names(&cache.controlled_by("set")), ["web-0"]);
        assert_eq!(names(&cache.controlled_besides("set", "a", "x")), ["web-0"]);
        assert!(cache.controlled_besides("set", "a", "web-").is_empty());
        assert_eq!(names(&cache.uncontrolled_in("a")), ["web-1", "x"]);
        assert!(cache.get("b", "x").is_none());
    }

    #[test]
    fn a_change_of_owner_moves_the_object_in_the_index() {
        let cache = cache();
        cache.apply(pod("a", "web-0", "1", json!([owner("old", true)])));
        let change = cache
            .apply(pod("a", "web-0", "2", json!([owner("new", true)])))
            .unwrap();
        assert!(change.old.is_some() && change.new.is_some());
        assert!(cache.owned_by("old").is_empty());
        assert_eq!(names(&cache.controlled_by("new")), ["web-0"]);
        assert!(cache.uncontrolled_in("a").is_empty());
    }

    #[test]
    fn objects_are_found_by_their_terms_as_long_as_they_have_them() {
        let cache = cache();
        cache.index("first letter", |pod| {
            vec![pod.metadata.name.iter().flat_map(|name| name.chars()).take(1).collect()]
        });
        cache.apply(pod("a", "web-0", "1", json!([])));
        cache.apply(pod("b", "web-1", "2", json!([])));
        cache.apply(pod("b", "db-0", "3", json!([])));
        assert_eq!(names(&cache.with_term("w")), ["web-0", "web-1"]);
        cache.remove(pod("a", "web-0", "4", json!([])));
        assert_eq!(names(&cache.with_term("w")), ["web-1"]);
    }

    #[test]
    fn the_same_version_again_is_no_change() {
        let cache = cache();
        assert!(cache.apply(pod("a", "web-0", "1", json!([]))).is_some());
        assert!(cache.apply(pod("a", "web-0", "1", json!([]))).is_none());
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let cache = cache();
        cache.apply(pod("a", "stays", "1", json!([])));
        cache.apply(pod("a", "goes", "2", json!([owner("set", true)])));
        cache.begin_list();
        cache.apply(pod("a", "stays", "1", json!([])));
        let gone = cache.end_list();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].latest().metadata.name.as_deref(), Some("goes"));
        assert!(cache.owned_by("set").is_empty());
    }

    #[test]
    fn progress_tells_of_lists_and_versions() {
        let cache = cache();
        cache.begin_list();
        cache.apply(pod("a", "x", "7", json!([])));
        cache.end_list();
        cache.remove(pod("a", "x", "9", json!([])));
        let progress = *cache.progress().borrow();
        assert_eq!(
            progress,
            Progress {
                lists_begun: 1,
                lists_done: 1,
                newest: 9
            }
        );
    }
}
