//! Facts about pods that every controller of pods goes by, and how a pod is made of a template.

use api::k8s::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use jiff::Timestamp;

use crate::claiming::Owner;
use crate::{Action, Announcement, Notice, Object, Target, is_terminating, owner_reference};

pub(crate) use crate::statefulset::health::{available_at, has_ended, is_available, is_ready, phase};

/// Whether it counts: it has not ended and nobody has deleted it.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !has_ended(pod) && !is_terminating(&pod.metadata)
}

/// Whether it has been deleted and has not ended yet.
pub(crate) fn is_shutting_down(pod: &Pod) -> bool {
    !has_ended(pod) && is_terminating(&pod.metadata)
}

/// A pod's condition of a type.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The node it is on, if it is on one.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// An object's name.
pub(crate) fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// A pod of a template, controlled by its owner.
pub(crate) fn from_template(owner: Owner<'_>, template: &PodTemplateSpec, name: String) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(format!("{}-", owner.name())),
            namespace: owner.meta.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner_reference(owner.kind, owner.meta)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates a pod, and tells of it on its owner.
pub(crate) fn create(owner: Owner<'_>, pod: &Pod) -> Action {
    Action::create(Object::of(pod)).announced(Announcement {
        about: owner.target(),
        done: Some(Notice {
            reason: "SuccessfulCreate",
            message: format!("Created pod: {}", name_of(&pod.metadata)),
        }),
        failed: Some(Notice {
            reason: "FailedCreate",
            message: "Error creating:".to_owned(),
        }),
    })
}

/// Deletes a pod, and tells of it on its owner.
pub(crate) fn delete(owner: Owner<'_>, pod: &Pod) -> Action {
    Action::delete(whatever_version(Target::of(pod))).announced(Announcement {
        about: owner.target(),
        done: Some(Notice {
            reason: "SuccessfulDelete",
            message: format!("Deleted pod: {}", name_of(&pod.metadata)),
        }),
        failed: Some(Notice {
            reason: "FailedDelete",
            message: format!("Error deleting pod {}:", name_of(&pod.metadata)),
        }),
    })
}

/// The same object in whatever state: for what must be done even if its status has changed meanwhile.
pub(crate) fn whatever_version(mut target: Target) -> Target {
    target.resource_version.clear();
    target
}

/// A count, or a percentage of a total, rounded up or down. What makes no sense is nothing.
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => {
            let percentage = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            let hundredfold = percentage.unwrap_or(0) * i64::from(total);
            let rounded = if round_up {
                (hundredfold + 99).div_euclid(100)
            } else {
                hundredfold.div_euclid(100)
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// The earliest of some times that lies in the future.
pub(crate) fn next_time(times: impl Iterator<Item = Timestamp>, now: Timestamp) -> Option<Timestamp> {
    times.filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let percent = |text: &str| Some(IntOrString::String(text.to_owned()));
        let cases = [
            (percent("25%"), 10, true, 3),
            (percent("25%"), 10, false, 2),
            (percent("100%"), 7, false, 7),
            (percent("1%"), 0, true, 0),
            (Some(IntOrString::Int(4)), 10, true, 4),
            (None, 10, true, 0),
        ];
        for (value, total, round_up, expected) in cases {
            assert_eq!(
                scaled(value.as_ref(), total, round_up),
                expected,
                "{value:?} of {total}"
            );
        }
    }
}
