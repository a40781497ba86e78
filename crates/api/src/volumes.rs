//! Which PersistentVolume serves which PersistentVolumeClaim: asked by the scheduler and by the claims controller alike.

use crate::quantity::{self, Quantity};
use crate::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

/// Where a claim named its class before `spec.storageClassName` existed; still honoured.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The class a claim asks for; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let annotation = claim
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(CLASS_ANNOTATION));
    let field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotation.or(field).map_or("", String::as_str)
}

/// The class a volume belongs to; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotation = volume
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(CLASS_ANNOTATION));
    let field = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotation.or(field).map_or("", String::as_str)
}

/// Whether the volume is promised to this very claim: by name, and by uid where the promise has one.
pub fn is_promised_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(promise) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let has_uid = promise.uid.as_ref().is_some_and(|uid| !uid.is_empty());
    promise.name == claim.metadata.name
        && promise.namespace == claim.metadata.namespace
        && (!has_uid || promise.uid == claim.metadata.uid)
}

/// Whether the volume has what the claim asks for: size, volume mode and access modes. These hold for a promised volume too.
pub fn is_sufficient(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    why_insufficient(volume, claim).is_none()
}

/// Why the volume cannot serve the claim, in upstream's words; nothing if it can.
pub fn why_insufficient(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (volume, claim) = (volume.spec.as_ref()?, claim.spec.as_ref()?);
    let asked = claim
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let has = volume.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    let amount = |text: Option<&str>| text.and_then(|text| quantity::parse(text).ok()).unwrap_or_default();
    if amount(has.map(|text| text.0.as_str())) < amount(asked.map(|text| text.0.as_str())) {
        return Some("requested PV is too small");
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    if mode(&volume.volume_mode) != mode(&claim.volume_mode) {
        return Some("incompatible volumeMode");
    }
    let offered = volume.access_modes.as_deref().unwrap_or_default();
    let wanted = claim.access_modes.as_deref().unwrap_or_default();
    if !wanted.iter().all(|one| offered.contains(one)) {
        return Some("incompatible accessMode");
    }
    None
}

/// The volume for a claim: one that is promised to it, else the smallest free one of its class that its selector
/// selects (by name among equals). `may_use` is asked about each and can refuse, e.g. for the node's sake.
pub fn best_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a PersistentVolume>,
    mut may_use: impl FnMut(&PersistentVolume) -> bool,
) -> Option<&'a PersistentVolume> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector.map(|selector| LabelSelector::from_object(&json!(selector))) {
        Some(Ok(selector)) => selector,
        Some(Err(_)) => return None,
        None => LabelSelector::default(),
    };
    let mut best: Option<(Quantity, &PersistentVolume)> = None;
    for volume in volumes {
        // The cheap questions first: this runs over every volume for every claim.
        let is_promised = is_promised_to(volume, claim);
        let may_match = is_promised || (is_available(volume) && class_of_volume(volume) == class_of_claim(claim));
        let is_going = volume.metadata.deletion_timestamp.is_some();
        if !may_match || is_going || !is_sufficient(volume, claim) || !may_use(volume) {
            continue;
        }
        if is_promised {
            return Some(volume);
        }
        if !selector.matches(&json!(volume.metadata.labels)) {
            continue;
        }
        let size = capacity_of(volume);
        let is_better = |(best_size, best): &(Quantity, &PersistentVolume)| {
            (size, &volume.metadata.name) < (*best_size, &best.metadata.name)
        };
        if best.as_ref().is_none_or(is_better) {
            best = Some((size, volume));
        }
    }
    best.map(|(_, volume)| volume)
}

fn is_available(volume: &PersistentVolume) -> bool {
    let is_promised = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    !is_promised && phase == Some("Available")
}

fn capacity_of(volume: &PersistentVolume) -> Quantity {
    let capacity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity
        .and_then(|text| quantity::parse(&text.0).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
        let mut volume = json!({"metadata": {"name": name, "labels": {"tier": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"},
            "status": {"phase": "Available"}});
        json_patch::merge(&mut volume, &more);
        serde_json::from_value(volume).unwrap()
    }

    fn claim(more: Value) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": "data", "namespace": "ns", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": "5Gi"}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}});
        json_patch::merge(&mut claim, &more);
        serde_json::from_value(claim).unwrap()
    }

    fn check(claim: &PersistentVolumeClaim, volumes: &[PersistentVolume], expected: Option<&str>) {
        let found = best_match(claim, volumes.iter(), |_| true);
        assert_eq!(found.and_then(|volume| volume.metadata.name.as_deref()), expected);
    }

    #[test]
    fn the_smallest_sufficient_free_volume_of_the_class_is_chosen() {
        let volumes = [
            volume("c", "20Gi", json!({})),
            volume("b", "10Gi", json!({})),
            volume("a", "1Gi", json!({})),
        ];
        check(&claim(json!({})), &volumes, Some("b"));
        check(
            &claim(json!({"spec": {"selector": {"matchLabels": {"tier": "c"}}}})),
            &volumes,
            Some("c"),
        );
        check(&claim(json!({"spec": {"storageClassName": "slow"}})), &volumes, None);
        check(
            &claim(json!({"spec": {"accessModes": ["ReadWriteMany"]}})),
            &volumes,
            None,
        );
        check(&claim(json!({"spec": {"volumeMode": "Block"}})), &volumes, None);
        check(
            &claim(json!({"metadata": {"annotations": {CLASS_ANNOTATION: "slow"}}})),
            &volumes,
            None,
        );
    }

    #[test]
    fn a_promised_volume_is_preferred_and_never_given_to_another() {
        let promise = |uid: &str| json!({"spec": {"claimRef": {"namespace": "ns", "name": "data", "uid": uid}}});
        check(
            &claim(json!({})),
            &[volume("a", "5Gi", json!({})), volume("z", "50Gi", promise("u"))],
            Some("z"),
        );
        check(&claim(json!({})), &[volume("z", "50Gi", promise("other"))], None);
        check(&claim(json!({})), &[volume("z", "1Gi", promise("u"))], None);
        check(
            &claim(json!({})),
            &[volume("z", "9Gi", json!({"status": {"phase": "Released"}}))],
            None,
        );
    }
}
