use super::*;
use proptest::prelude::*;

fn key(name: u8) -> Key {
    Key {
        namespace: format!("n{}", name % 2),
        name: format!("s{name}"),
    }
}

fn slice_key(slice: u8) -> SliceKey {
    (format!("n{}", slice % 2), format!("e{slice}"))
}

fn told() -> impl Strategy<Value = Told<u8, u8>> {
    let service = prop::option::of(0..3u8);
    let slice = prop::option::of((0..4u8, 0..3u8));
    prop_oneof![
        4 => (0..4u8, service).prop_map(|(name, service)| Told::Service(key(name), service)),
        4 => (0..6u8, slice).prop_map(|(name, slice)| {
            Told::Slice(slice_key(name), slice.map(|(owner, slice)| (key(owner), slice)))
        }),
        1 => prop::collection::hash_set(0..4u8, 0..4).prop_map(|seen| Told::Services(seen.into_iter().map(key).collect())),
        1 => prop::collection::hash_set(0..6u8, 0..6)
            .prop_map(|seen| Told::Slices(seen.into_iter().map(slice_key).collect())),
    ]
}

/// The plainest thing that can be right: all objects in two maps.
#[derive(Default)]
struct Model {
    services: BTreeMap<Key, u8>,
    slices: BTreeMap<SliceKey, (Key, u8)>,
}

impl Model {
    fn take(&mut self, told: &Told<u8, u8>) {
        match told.clone() {
            Told::Service(key, Some(service)) => drop(self.services.insert(key, service)),
            Told::Service(key, None) => drop(self.services.remove(&key)),
            Told::Slice(key, Some(slice)) => drop(self.slices.insert(key, slice)),
            Told::Slice(key, None) => drop(self.slices.remove(&key)),
            Told::Services(seen) => self.services.retain(|key, _| seen.contains(key)),
            Told::Slices(seen) => self.slices.retain(|key, _| seen.contains(key)),
        }
    }

    /// What is known of one Service.
    fn of(&self, wanted: &Key) -> (Option<u8>, Vec<u8>) {
        let mut slices: Vec<_> = self.slices.iter().filter(|(_, (owner, _))| owner == wanted).collect();
        slices.sort_by_key(|((_, name), _)| name.clone());
        let slices = slices.into_iter().map(|(_, (_, slice))| *slice).collect();
        (self.services.get(wanted).copied(), slices)
    }
}

proptest! {
    #[test]
    fn every_change_is_named_and_nothing_is_kept_that_is_gone(all in prop::collection::vec(told(), 0..60)) {
        let (mut services, mut model) = (Services::default(), Model::default());
        for told in all {
            let before: Vec<_> = (0..4).map(|name| model.of(&key(name))).collect();
            model.take(&told);
            let changed = services.take(told);
            for name in 0..4 {
                let key = key(name);
                let is = (services.service(&key).copied(), services.slices(&key).copied().collect::<Vec<_>>());
                prop_assert_eq!(&is, &model.of(&key));
                prop_assert!(changed.contains(&key) || is == before[usize::from(name)], "{:?} changed unsaid", key);
            }
            prop_assert_eq!(services.owners.len(), model.slices.len());
        }
    }
}

#[test]
fn nothing_is_known_before_both_lists_were_told() {
    let mut services: Services<u8, u8> = Services::default();
    services.take(Told::Slices(HashSet::new()));
    assert!(!services.is_known());
    services.take(Told::Services(HashSet::new()));
    assert!(services.is_known());
}

#[test]
fn same_again_is_no_change() {
    let mut services: Services<u8, u8> = Services::default();
    assert_eq!(services.take(Told::Service(key(1), Some(1))).len(), 1);
    assert_eq!(services.take(Told::Service(key(1), Some(1))).len(), 0);
    assert_eq!(services.take(Told::Slice(slice_key(1), Some((key(1), 1)))).len(), 1);
    assert_eq!(services.take(Told::Slice(slice_key(1), Some((key(1), 1)))).len(), 0);
    // A slice that changes hands is news for both.
    assert_eq!(services.take(Told::Slice(slice_key(1), Some((key(3), 1)))).len(), 2);
}
