//! What valid requests and limits are.

use crate::error::FieldError;
use crate::validation::names;
use crate::validation::place::{Errors, Place};

/// What is wrong with the resources of a container or a pod.
pub(super) fn validate(resources: &Place<'_>, errors: &mut Errors) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    for list in [&limits, &requests] {
        for (name, amount) in list.entries() {
            resource_name(name, &amount, errors);
            amount.must_not_be_negative_amount(errors);
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.key(name);
        let (Some(requested), Some(limited)) = (request.quantity(), limit.quantity()) else {
            if !limit.is_set() && !may_overcommit(name) {
                errors.push(limit.required("Limit must be set for non overcommitable resources"));
            }
            continue;
        };
        if !may_overcommit(name) && requested != limited {
            let why = format!("must be equal to {name} limit of {}", limit.text());
            errors.push(FieldError::invalid(&requests.path, request.text(), why));
        } else if requested > limited {
            let why = format!("must be less than or equal to {name} limit of {}", limit.text());
            errors.push(FieldError::invalid(&requests.path, request.text(), why));
        }
    }
}

/// Whether more may be promised than there is: of what a node can ration, unlike devices and huge pages.
fn may_overcommit(name: &str) -> bool {
    !name.contains('/') && !name.starts_with("hugepages-") || name.contains("kubernetes.io/")
}

fn resource_name(name: &str, place: &Place<'_>, errors: &mut Errors) {
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if standard {
        return;
    }
    let wrong_form = names::qualified_name_errors(name);
    for why in &wrong_form {
        errors.push(FieldError::invalid(&place.path, name, why.clone()));
    }
    if wrong_form.is_empty() && !name.contains('/') {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(&place.path, name, why));
        errors.push(FieldError::invalid(
            &place.path,
            name,
            "must be a standard resource for containers",
        ));
    }
}
