//! All caches, one for each watched kind, whoever watches it.

use std::any::{Any, TypeId, type_name};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use controllers_plan::certificates::Access;
use controllers_plan::disruption::Scale;
use controllers_plan::{AnyObject, Key, Kind};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cache::{Cache, Facts, MapToKeys, Progress, Terms};
use crate::reflect::{self, Reflection};
use crate::refusals::Refusals;

/// A typed kind that can be watched: all of `api::k8s`, and our own wrappers of them.
pub(crate) trait Watched:
    kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<T: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Watched for T {}

/// The shared caches, from which every controller's `Observed` is gathered.
#[derive(Default)]
pub(crate) struct Caches {
    typed: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    metadata: BTreeMap<Kind, Arc<Cache<AnyObject>>>,
    freshness: BTreeMap<Kind, Vec<Arc<dyn Freshness>>>,
    /// What the server said to the last plan of a key, if it refused it.
    pub(crate) refusals: Refusals,
    /// The scales that were asked of the server, by the uid of their owners.
    scales: Mutex<HashMap<String, Scale>>,
    /// What the server said of those who ask for certificates, by the name of the request and with its uid, until it is
    /// planned.
    accesses: Mutex<HashMap<String, (String, Access)>>,
    /// Those of custom resources come and go.
    custom: RwLock<BTreeMap<Kind, Custom>>,
}

/// The cache of a custom resource.
#[derive(Clone)]
pub(crate) struct Custom {
    pub(crate) namespaced: bool,
    pub(crate) cache: Arc<Cache<AnyObject>>,
}

/// What the executor asks of a cache of whatever type.
pub(crate) trait Freshness: Send + Sync {
    /// How far the cache has come, now and later.
    fn follow(&self) -> watch::Receiver<Progress>;
    /// Whether the cache would show an object of this name.
    fn shows(&self, name: &str) -> bool;
    /// uid and whether it is being deleted, of the object of this name.
    fn glimpse(&self, key: &Key) -> Option<(String, bool)>;
}

impl<T: Send + Sync> Freshness for Cache<T> {
    fn follow(&self) -> watch::Receiver<Progress> {
        self.progress()
    }

    fn shows(&self, name: &str) -> bool {
        self.only().is_none_or(|only| only == name)
    }

    fn glimpse(&self, key: &Key) -> Option<(String, bool)> {
        let object = self.get(&key.namespace, &key.name)?;
        let facts = self.facts(&object);
        Some((facts.uid.to_owned(), facts.is_terminating))
    }
}

impl Caches {
    /// The cache of a typed kind.
    ///
    /// # Panics
    /// If no row of the table watches the kind.
    pub(crate) fn of<T: Watched>(&self) -> &Cache<T> {
        let cache = self.typed.get(&TypeId::of::<T>());
        let cache = cache.unwrap_or_else(|| panic!("no controller watches {}", type_name::<T>()));
        cache.downcast_ref().expect("stored under its own type")
    }

    /// The cache of a kind's metadata, if a row watches that.
    pub(crate) fn metadata_of(&self, kind: Kind) -> Option<Arc<Cache<AnyObject>>> {
        let custom = || self.custom().get(&kind).map(|custom| custom.cache.clone());
        self.metadata.get(&kind).cloned().or_else(custom)
    }

    /// All caches of metadata.
    pub(crate) fn all_metadata(&self) -> Vec<Arc<Cache<AnyObject>>> {
        let custom: Vec<_> = self.custom().values().map(|custom| custom.cache.clone()).collect();
        self.metadata.values().cloned().chain(custom).collect()
    }

    /// The custom resources that are served, and whether they are in namespaces.
    pub(crate) fn custom_kinds(&self) -> Vec<(Kind, bool)> {
        self.custom()
            .iter()
            .map(|(kind, custom)| (*kind, custom.namespaced))
            .collect()
    }

    /// Adds or removes the cache of a custom resource.
    pub(crate) fn set_custom(&self, kind: Kind, custom: Option<Custom>) {
        let mut known = self.custom.write().expect("no panic while held");
        match custom {
            Some(custom) => known.insert(kind, custom),
            None => known.remove(&kind),
        };
    }

    fn custom(&self) -> RwLockReadGuard<'_, BTreeMap<Kind, Custom>> {
        self.custom.read().expect("no panic while held")
    }

    /// The scale of an owner that was looked up.
    pub(crate) fn scale(&self, uid: &str) -> Option<Scale> {
        self.scales.lock().expect("no panic while held").get(uid).cloned()
    }

    /// Notes what was found when the scale of an owner was looked up.
    pub(crate) fn note_scale(&self, uid: &str, found: Option<Scale>) {
        let mut scales = self.scales.lock().expect("no panic while held");
        match found {
            Some(scale) => scales.insert(uid.to_owned(), scale),
            None => scales.remove(uid),
        };
    }

    /// What the server said of who asks for a certificate, once: of another request of that name it said nothing.
    pub(crate) fn take_access(&self, request: &str, uid: Option<&str>) -> Option<Access> {
        let noted = self.accesses.lock().expect("no panic while held").remove(request);
        noted
            .filter(|(its_uid, _)| uid == Some(its_uid))
            .map(|(_, access)| access)
    }

    /// Notes what the server said of who asks for a certificate, if it was asked.
    pub(crate) fn note_access(&self, request: &str, uid: Option<&str>, access: Option<Access>) {
        if let (Some(uid), Some(access)) = (uid, access) {
            let mut accesses = self.accesses.lock().expect("no panic while held");
            accesses.insert(request.to_owned(), (uid.to_owned(), access));
        }
    }

    /// Every cache that there is of a kind (typed, metadata, both or none).
    pub(crate) fn freshness_of(&self, kind: Kind) -> Vec<Arc<dyn Freshness>> {
        let custom = self
            .custom()
            .get(&kind)
            .map(|custom| custom.cache.clone() as Arc<dyn Freshness>);
        let fixed = self.freshness.get(&kind).map(Vec::as_slice).unwrap_or_default();
        fixed.iter().cloned().chain(custom).collect()
    }
}

/// Collects what the rows of the table want to watch, each kind once.
#[derive(Default)]
pub(crate) struct Watchlist {
    pub(crate) caches: Caches,
    pub(crate) reflections: Vec<Reflection>,
}

impl Watchlist {
    fn typed<T: Watched>(&mut self, new: impl FnOnce() -> Cache<T>) -> Arc<Cache<T>> {
        if let Some(known) = self.caches.typed.get(&TypeId::of::<T>()) {
            return known.clone().downcast().expect("stored under its own type");
        }
        let cache = Arc::new(new());
        self.caches.typed.insert(TypeId::of::<T>(), cache.clone());
        self.caches
            .freshness
            .entry(kind_of::<T>())
            .or_default()
            .push(cache.clone());
        self.reflections.push(reflect::typed(cache.clone()));
        cache
    }

    fn metadata(&mut self, kind: Kind) -> Arc<Cache<AnyObject>> {
        if let Some(known) = self.caches.metadata.get(&kind) {
            return known.clone();
        }
        let cache = Arc::new(Cache::new(Facts::of_any));
        self.caches.metadata.insert(kind, cache.clone());
        self.caches.freshness.entry(kind).or_default().push(cache.clone());
        self.reflections.push(reflect::metadata(kind, cache.clone()));
        cache
    }
}

/// Puts a kind on the list for a row of the table.
type Enlist = Box<dyn FnOnce(&mut Watchlist, usize) + Send>;

/// One kind that a controller watches, and which of its own objects a change there concerns.
pub(crate) struct Watch {
    pub(crate) kind: Kind,
    pub(crate) enlist: Enlist,
}

impl Watch {
    /// Watches whole objects of a typed kind.
    pub(crate) fn on<T: Watched>(map: MapToKeys<T>) -> Self {
        Self::of_cache(|| Cache::new(|object: &T| Facts::of_meta(object.meta())), map)
    }

    /// The same for the objects of one name, in all namespaces. No other row may watch the type.
    pub(crate) fn named<T: Watched>(name: &'static str, map: MapToKeys<T>) -> Self {
        Self::of_cache(
            move || Cache::of_name(name, |object: &T| Facts::of_meta(object.meta())),
            map,
        )
    }

    fn of_cache<T: Watched>(new: impl FnOnce() -> Cache<T> + Send + 'static, map: MapToKeys<T>) -> Self {
        let enlist = move |watchlist: &mut Watchlist, row| watchlist.typed(new).listen(row, map);
        Self {
            kind: kind_of::<T>(),
            enlist: Box::new(enlist),
        }
    }

    /// The same, its cache indexed by terms (one index for each name, whoever asks for it).
    pub(crate) fn indexed<T: Watched>(self, name: &'static str, terms: Terms<T>) -> Self {
        let enlist = move |watchlist: &mut Watchlist, row| {
            (self.enlist)(watchlist, row);
            let known = watchlist.typed(|| Cache::new(|object: &T| Facts::of_meta(object.meta())));
            known.index(name, terms);
        };
        Self {
            kind: self.kind,
            enlist: Box::new(enlist),
        }
    }

    /// Watches the metadata of a kind. A kind that the server does not serve counts as empty.
    pub(crate) fn metadata(kind: Kind, map: MapToKeys<AnyObject>) -> Self {
        let enlist = move |watchlist: &mut Watchlist, row| watchlist.metadata(kind).listen(row, map);
        Self {
            kind,
            enlist: Box::new(enlist),
        }
    }
}

/// The kind of a typed object.
pub(crate) fn kind_of<T: Watched>() -> Kind {
    Kind {
        group: lasting(T::group(&())),
        version: lasting(T::version(&())),
        kind: lasting(T::kind(&())),
        plural: lasting(T::plural(&())),
    }
}

/// Kinds are constants of the program, so keeping their names for ever costs nothing that grows.
fn lasting(name: Cow<'static, str>) -> &'static str {
    match name {
        Cow::Borrowed(name) => name,
        Cow::Owned(name) => name.leak(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_a_request_does_not_count_for_its_successor() {
        let caches = Caches::default();
        let noted = || caches.note_access("r", Some("old"), Some(Access::Denied));
        noted();
        assert!(caches.take_access("r", Some("new")).is_none());
        noted();
        assert!(caches.take_access("r", None).is_none());
        noted();
        assert!(caches.take_access("r", Some("old")).is_some());
        assert!(caches.take_access("r", Some("old")).is_none(), "it counts once");
    }
}
