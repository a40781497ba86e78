//! Whether a definition takes effect: its names must not be another's; and how its end begins.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Keeps a definition until all of its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const APPROVAL: &str = "api-approved.kubernetes.io";

/// The names that other definitions of a group have.
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by(others: &[&Value], group: &Value) -> Self {
        let mut taken = Self {
            resources: BTreeSet::new(),
            kinds: BTreeSet::new(),
        };
        for other in others.iter().filter(|other| other["spec"]["group"] == *group) {
            let names = &other["status"]["acceptedNames"];
            let short = names["shortNames"].as_array().into_iter().flatten();
            let resources = [&names["plural"], &names["singular"]].into_iter().chain(short);
            taken.resources.extend(resources.filter_map(text));
            taken
                .kinds
                .extend([&names["kind"], &names["listKind"]].into_iter().filter_map(text));
        }
        taken
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The status that a definition should have among the others; `None` if it has it. `now` is a time as RFC 3339 has it.
pub fn settle(definition: &Value, others: &[&Value], now: &str) -> Option<Value> {
    let mut settled = definition["status"].clone();
    if !settled.is_object() {
        settled = json!({});
    }
    let (accepted, conflict) = accept(definition, &Taken::by(others, &definition["spec"]["group"]));
    settled["acceptedNames"] = accepted;
    match &conflict {
        None => set(
            &mut settled,
            "NamesAccepted",
            true,
            "NoConflicts",
            "no conflicts found",
            now,
        ),
        Some((reason, message)) => set(&mut settled, "NamesAccepted", false, reason, message, now),
    }
    if !super::is_true(definition, "Established") {
        match conflict {
            None => {
                let message = "the initial names have been accepted";
                set(&mut settled, "Established", true, "InitialNamesAccepted", message, now);
            }
            Some(_) => {
                let message = "not all names are accepted";
                set(&mut settled, "Established", false, "NotAccepted", message, now);
            }
        }
    }
    approve(definition, &mut settled, now);
    (settled != definition["status"]).then_some(settled)
}

/// The accepted names, and the first reason why not all are.
fn accept(definition: &Value, taken: &Taken) -> (Value, Option<(&'static str, String)>) {
    let (wanted, had) = (&definition["spec"]["names"], &definition["status"]["acceptedNames"]);
    let mut accepted = if had.is_object() { had.clone() } else { json!({}) };
    let mut conflict = None;
    let mut decide = |field: &str, among: &BTreeSet<String>, reason: &'static str| {
        let name = text(&wanted[field]).unwrap_or_default();
        if wanted[field] != had[field] && among.contains(&name) {
            conflict.get_or_insert((reason, format!("{name:?} is already in use")));
        } else if !name.is_empty() {
            accepted[field] = wanted[field].clone();
        }
    };
    decide("plural", &taken.resources, "PluralConflict");
    decide("singular", &taken.resources, "SingularConflict");
    decide("kind", &taken.kinds, "KindConflict");
    decide("listKind", &taken.kinds, "ListKindConflict");
    let short: Vec<String> = wanted["shortNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect();
    let old: BTreeSet<String> = had["shortNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect();
    let in_use: Vec<String> = short
        .iter()
        .filter(|name| !old.contains(*name) && taken.resources.contains(*name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    if in_use.is_empty() {
        put_list(&mut accepted, "shortNames", &wanted["shortNames"]);
    } else {
        let message = match in_use.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        conflict.get_or_insert(("ShortNamesConflict", message));
    }
    put_list(&mut accepted, "categories", &wanted["categories"]);
    (accepted, conflict)
}

fn put_list(names: &mut Value, field: &str, list: &Value) {
    if let Some(names) = names.as_object_mut() {
        match list.as_array().filter(|list| !list.is_empty()) {
            Some(list) => names.insert(field.to_owned(), json!(list)),
            None => names.remove(field),
        };
    }
}

/// Groups of the Kubernetes community need its approval.
fn approve(definition: &Value, status: &mut Value, now: &str) {
    const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    if !is_protected(group) {
        return;
    }
    let annotation = &definition["metadata"]["annotations"][APPROVAL];
    match annotation.as_str() {
        Some(link) if link.starts_with("http") => {
            let message = format!("approved in {link}");
            set(status, CONFORMANT, true, "ApprovedAnnotation", &message, now);
        }
        Some(other) if other.starts_with("unapproved") => {
            let message = format!("not approved: {other:?}");
            set(status, CONFORMANT, false, "UnapprovedAnnotation", &message, now);
        }
        _ => {}
    }
}

/// Whether a group's name is reserved for the Kubernetes community.
pub(crate) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .into_iter()
        .any(|domain| group == domain || group.ends_with(&format!(".{domain}")))
}

/// The annotation in which a definition of a protected group names its approval.
pub(crate) fn approval(definition: &Value) -> &Value {
    &definition["metadata"]["annotations"][APPROVAL]
}

/// Marks a definition whose deletion begins: its objects go first.
pub fn begin_termination(definition: &mut Value, now: &str) {
    let finalizers = &mut definition["metadata"]["finalizers"];
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|one| one == CLEANUP_FINALIZER)
    {
        finalizers.push(json!(CLEANUP_FINALIZER));
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let mut status = definition["status"].take();
    if !status.is_object() {
        status = json!({});
    }
    set(
        &mut status,
        "Terminating",
        true,
        "InstanceDeletionPending",
        message,
        now,
    );
    definition["status"] = status;
}

/// Sets a condition; its time changes only with its status.
fn set(status: &mut Value, name: &str, is_true: bool, reason: &str, message: &str, now: &str) {
    let word = if is_true { "True" } else { "False" };
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    let condition = json!({"type": name, "status": word, "lastTransitionTime": now, "reason": reason,
        "message": message});
    match conditions.iter_mut().find(|one| one["type"] == name) {
        Some(one) if one["status"] == word => {
            one["reason"] = json!(reason);
            one["message"] = json!(message);
        }
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn definition(plural: &str, kind: &str) -> Value {
        json!({"spec": {"group": "example.com", "names": {"plural": plural, "singular": plural.trim_end_matches('s'),
            "kind": kind, "listKind": format!("{kind}List"), "shortNames": ["ct"]}}})
    }

    #[test]
    fn names_nobody_has_are_accepted_and_then_nothing_changes() {
        let mut one = definition("crontabs", "CronTab");
        one["status"] = settle(&one, &[], NOW).unwrap();
        assert!(super::super::is_true(&one, "Established") && super::super::is_true(&one, "NamesAccepted"));
        assert_eq!(one["status"]["acceptedNames"], one["spec"]["names"]);
        assert_eq!(settle(&one, &[], "2027-01-01T00:00:00Z"), None);
    }

    #[test]
    fn names_of_another_are_refused_until_they_are_free() {
        let mut first = definition("crontabs", "CronTab");
        first["status"] = settle(&first, &[], NOW).unwrap();
        let mut second = definition("others", "CronTab");
        second["status"] = settle(&second, &[&first], NOW).unwrap();
        let accepted = &second["status"]["conditions"][0];
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("KindConflict"))
        );
        assert_eq!(accepted["message"], "\"CronTab\" is already in use");
        assert!(!super::super::is_true(&second, "Established"));
        second["status"] = settle(&second, &[], NOW).unwrap();
        assert!(super::super::is_true(&second, "Established"));
    }

    #[test]
    fn the_end_begins_with_a_finalizer() {
        let mut one = definition("crontabs", "CronTab");
        begin_termination(&mut one, NOW);
        assert_eq!(one["metadata"]["finalizers"], json!([CLEANUP_FINALIZER]));
        assert!(super::super::is_true(&one, "Terminating"));
    }
}
