//! A set's claims: their names, their making, and who owns them so that the retention policy comes true (A9).

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::StatefulSet;
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::{Action, Announcement, Kind, Notice, Object, Target, is_terminating, owner_reference};

use super::identity::pod_name;

/// Claims by name.
pub(crate) type Claims<'a> = BTreeMap<&'a str, &'a PersistentVolumeClaim>;

/// Volume name and claim name for each claim template of the set (A9.1).
pub fn names(set: &StatefulSet, ordinal: i64) -> Vec<(String, String)> {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let name = |template: &PersistentVolumeClaim| {
        let volume = template.metadata.name.clone().unwrap_or_default();
        let claim = format!("{volume}-{set_name}-{ordinal}");
        (volume, claim)
    };
    templates(set).map(name).collect()
}

fn templates(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    set.spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
}

/// What stands in the way of a pod's claims.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The claim of this name is being deleted (A9.3).
    Deleting(String),
    /// The claim of this name belongs to an earlier pod and is about to be collected (A7.2.2).
    Stale(String),
}

/// Whether the pod of an ordinal, which does not exist, may be created with the claims that there are.
pub(crate) fn obstacle(set: &StatefulSet, claims: &Claims<'_>, ordinal: i64) -> Option<Obstacle> {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let pod = ObjectMeta {
        name: Some(pod_name(set_name, ordinal)),
        ..ObjectMeta::default()
    };
    let scaled_away = Policy::of(set).when_scaled == Keep::Delete;
    names(set, ordinal).into_iter().find_map(|(_, name)| {
        let claim = claims.get(name.as_str())?;
        let owners = claim.metadata.owner_references.iter().flatten();
        if scaled_away
            && owners
                .into_iter()
                .any(|owner| names_object(owner, Kind::of::<Pod>(), &pod))
        {
            return Some(Obstacle::Stale(name));
        }
        is_terminating(&claim.metadata).then_some(Obstacle::Deleting(name))
    })
}

/// Creates the claims that the pod of an ordinal lacks (A9.1, A9.2).
pub(crate) fn missing(set: &StatefulSet, claims: &Claims<'_>, ordinal: i64) -> Vec<Action> {
    let lacking = templates(set)
        .zip(names(set, ordinal))
        .filter(|(_, (_, name))| !claims.contains_key(name.as_str()));
    lacking
        .map(|(template, (_, name))| create(set, template, name, ordinal))
        .collect()
}

fn create(set: &StatefulSet, template: &PersistentVolumeClaim, name: String, ordinal: i64) -> Action {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let pod = pod_name(set_name, ordinal);
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    let selected = set
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.match_labels.clone())
        .unwrap_or_default();
    labels.extend(selected);
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    };
    let announcement = Announcement {
        about: Target::of(set),
        done: Some(Notice {
            reason: "SuccessfulCreate",
            message: format!("Create Claim {name} Pod {pod} in StatefulSet {set_name} success"),
        }),
        failed: Some(Notice {
            reason: "FailedCreate",
            message: format!("Create Claim {name} for Pod {pod} in StatefulSet {set_name} failed"),
        }),
    };
    Action::create(Object::of(&claim)).announced(announcement)
}

/// What a policy half says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Retain,
    Delete,
}

/// `persistentVolumeClaimRetentionPolicy`; unknown values retain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    when_scaled: Keep,
    when_deleted: Keep,
}

impl Policy {
    fn of(set: &StatefulSet) -> Self {
        let policy = set
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let keep = |half: Option<&String>| {
            if half.is_some_and(|half| half == "Delete") {
                Keep::Delete
            } else {
                Keep::Retain
            }
        };
        Self {
            when_scaled: keep(policy.and_then(|policy| policy.when_scaled.as_ref())),
            when_deleted: keep(policy.and_then(|policy| policy.when_deleted.as_ref())),
        }
    }

    fn retains_all(self) -> bool {
        self == Self {
            when_scaled: Keep::Retain,
            when_deleted: Keep::Retain,
        }
    }
}

/// The claims of one pod whose owners are not as the policy says, and those on which somebody else insists.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    /// Patches that put the owners right.
    pub(crate) repairs: Vec<Action>,
    /// Names of claims that another controller owns.
    pub(crate) conflicts: Vec<String>,
}

/// Compares the owners of an existing pod's claims with the retention policy (A9.6, A9.7).
pub(crate) fn ownership(
    set: &StatefulSet,
    claims: &Claims<'_>,
    pod: &Pod,
    ordinal: i64,
    is_condemned: bool,
) -> Ownership {
    let policy = Policy::of(set);
    let set_kind = Kind::of::<StatefulSet>();
    let owner = match (policy.when_scaled, policy.when_deleted, is_condemned) {
        (Keep::Delete, _, true) => Some(owner_reference(Kind::of::<Pod>(), &pod.metadata)),
        (_, Keep::Delete, _) => Some(owner_reference(set_kind, &set.metadata)),
        _ => None,
    };
    let mut ownership = Ownership::default();
    for (_, name) in names(set, ordinal) {
        let Some(claim) = claims.get(name.as_str()) else {
            continue;
        };
        let known = claim.metadata.owner_references.clone().unwrap_or_default();
        if known.iter().any(|known| is_stale(known, set, pod)) {
            continue;
        }
        let mut wanted = known.clone();
        wanted.retain(|known| !is_ours(known, set, pod));
        let others_rule = wanted.iter().any(|other| other.controller == Some(true));
        if others_rule && !policy.retains_all() {
            ownership.conflicts.push(name);
        } else {
            wanted.extend(owner.clone());
        }
        if !are_equal(&known, &wanted) {
            let patch = json!({ "metadata": { "ownerReferences": wanted } });
            ownership
                .repairs
                .push(Action::patch(Target::of(*claim), patch).announced(repair_failed(set, pod)));
        }
    }
    ownership
}

fn repair_failed(set: &StatefulSet, pod: &Pod) -> Announcement {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Update Pod {pod_name} in StatefulSet {set_name} failed");
    Announcement {
        about: Target::of(set),
        done: None,
        failed: Some(Notice {
            reason: "FailedUpdate",
            message,
        }),
    }
}

fn names_object(owner: &OwnerReference, kind: Kind, meta: &ObjectMeta) -> bool {
    owner.kind == kind.kind
        && owner.api_version == kind.api_version()
        && meta.name.as_ref().is_some_and(|name| *name == owner.name)
}

/// Whether a reference names the set or the pod.
fn is_ours(owner: &OwnerReference, set: &StatefulSet, pod: &Pod) -> bool {
    names_object(owner, Kind::of::<StatefulSet>(), &set.metadata)
        || names_object(owner, Kind::of::<Pod>(), &pod.metadata)
}

/// Whether a reference names a set or pod of that name that is no more.
fn is_stale(owner: &OwnerReference, set: &StatefulSet, pod: &Pod) -> bool {
    let is_other = |meta: &ObjectMeta| meta.uid.as_ref().is_none_or(|uid| *uid != owner.uid);
    (names_object(owner, Kind::of::<StatefulSet>(), &set.metadata) && is_other(&set.metadata))
        || (names_object(owner, Kind::of::<Pod>(), &pod.metadata) && is_other(&pod.metadata))
}

/// Whether two lists of owners are the same; the order says nothing.
fn are_equal(left: &[OwnerReference], right: &[OwnerReference]) -> bool {
    left.len() == right.len() && left.iter().all(|owner| right.contains(owner))
}
