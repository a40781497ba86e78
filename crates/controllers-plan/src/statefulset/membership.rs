//! Which pods are the set's: those it controls, those it adopts, those it lets go, those that only bear its names (A5).

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::StatefulSet;
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::selector::{LabelSelector, Operator};
use serde_json::{Value, json};

use crate::{Action, Guard, Kind, Target, controller_of, is_terminating, owner_reference};

use super::identity::parse_name;
use super::uid_of;

/// A set's selector, parsed.
#[derive(Debug)]
pub(crate) struct SetSelector(LabelSelector);

impl SetSelector {
    /// Parses the selector of a set; the error is for people.
    pub(crate) fn of(set: &StatefulSet) -> Result<Self, String> {
        let selector = set.spec.as_ref().map(|spec| serde_json::to_value(&spec.selector));
        let selector = selector.and_then(Result::ok).unwrap_or(Value::Null);
        LabelSelector::from_object(&selector).map(Self)
    }

    /// Whether labels are selected.
    pub(crate) fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.requirements.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            let is_listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                Operator::In => is_listed,
                Operator::NotIn => !is_listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                // Only texts can say these, and a set's selector is no text.
                Operator::GreaterThan | Operator::LessThan => false,
            }
        })
    }
}

/// The pods in sight of a set, sorted by what they are to it (A5.4).
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    /// Its own.
    pub(crate) claimed: Vec<&'a Pod>,
    /// Nobody's, to become its own.
    pub(crate) adopted: Vec<&'a Pod>,
    /// Its own no longer, because their labels or names do not fit.
    pub(crate) released: Vec<&'a Pod>,
    /// Pods that have a name of the set's and are not its own, by name.
    pub(crate) namesakes: BTreeMap<&'a str, &'a Pod>,
}

impl<'a> Members<'a> {
    pub(crate) fn of(set: &StatefulSet, pods: &[&'a Pod], selector: &SetSelector) -> Self {
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let (own_uid, deleting) = (uid_of(&set.metadata), is_terminating(&set.metadata));
        let mut members = Self::default();
        for &pod in pods {
            let meta = &pod.metadata;
            let name = meta.name.as_deref().unwrap_or_default();
            let bears_name = parse_name(name).is_some_and(|(parent, _)| parent == set_name);
            let fits = bears_name && selector.selects(meta.labels.as_ref());
            match controller_of(meta) {
                Some(owner) if owner.uid == own_uid && fits => members.claimed.push(pod),
                Some(owner) if owner.uid == own_uid && !deleting => members.released.push(pod),
                Some(owner) if owner.uid == own_uid => {}
                None if fits && !deleting && !is_terminating(meta) => members.adopted.push(pod),
                _ if bears_name => {
                    members.namesakes.insert(name, pod);
                }
                _ => {}
            }
        }
        members
    }

    /// The steps that adopt and release.
    pub(crate) fn changes(&self, set: &StatefulSet) -> Vec<Action> {
        let adoptions = self
            .adopted
            .iter()
            .map(|pod| adopt(set, Target::of(*pod), &pod.metadata));
        adoptions
            .chain(self.released.iter().map(|pod| release(set, pod)))
            .collect()
    }
}

/// Makes the set the controller of an orphan, if the set itself still lives (A5.5).
pub(crate) fn adopt(set: &StatefulSet, orphan: Target, meta: &ObjectMeta) -> Action {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid_of(&set.metadata));
    owners.push(owner_reference(Kind::of::<StatefulSet>(), &set.metadata));
    let patch = json!({ "metadata": { "ownerReferences": owners } });
    Action::patch(orphan, patch).guarded(Guard::Alive(Target::of(set)))
}

fn release(set: &StatefulSet, pod: &Pod) -> Action {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid_of(&set.metadata));
    Action::patch(Target::of(pod), json!({ "metadata": { "ownerReferences": owners } }))
}
