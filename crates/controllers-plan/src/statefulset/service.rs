//! Whether the Service that a set names gives its pods their names (A11.1): nothing fails if not, and nothing says so.

use api::k8s::api::apps::v1::StatefulSet;
use api::k8s::api::core::v1::Service;

use crate::{Event, EventType, Notice, Target};

/// What is wrong between a set and its Service: a word for programs and a sentence for people.
///
/// `service` is the Service of the name that the set says, in its namespace.
pub fn service_problem(set: &StatefulSet, service: Option<&Service>) -> Option<(&'static str, String)> {
    let spec = set.spec.as_ref()?;
    let name = spec.service_name.as_deref().filter(|name| !name.is_empty())?;
    let Some(service) = service else {
        let text = format!("serviceName names Service {name}, which does not exist: its pods have no DNS names");
        return Some(("ServiceMissing", text));
    };
    let service = service.spec.as_ref();
    if service.and_then(|spec| spec.cluster_ip.as_deref()) != Some("None") {
        let text = format!("Service {name} is not headless (clusterIP: None): its pods have no DNS names of their own");
        return Some(("ServiceNotHeadless", text));
    }
    let selector = service
        .and_then(|spec| spec.selector.as_ref())
        .filter(|selector| !selector.is_empty());
    let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let Some(selector) = selector else {
        let text = format!("Service {name} has no selector: only what is entered by hand gives the pods DNS names");
        return Some(("ServiceSelectsNone", text));
    };
    let is_borne = |key: &String, value: &String| labels.is_some_and(|labels| labels.get(key) == Some(value));
    if selector.iter().all(|(key, value)| is_borne(key, value)) {
        return None;
    }
    let wanted: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let text = format!(
        "Service {name} selects {}, which none of the pods is: they have no DNS names",
        wanted.join(",")
    );
    Some(("ServiceSelectsNone", text))
}

/// The event about it, once for each generation of the set.
pub(super) fn warning(set: &StatefulSet, service: Option<&Service>) -> Option<Event> {
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    if seen >= set.metadata.generation {
        return None;
    }
    let (reason, message) = service_problem(set, service)?;
    Some(Event {
        about: Target::of(set),
        event_type: EventType::Warning,
        notice: Notice { reason, message },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn problem(name: &str, service: Option<Value>) -> Option<&'static str> {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 1 },
            "spec": {
                "serviceName": name, "selector": {},
                "template": { "metadata": { "labels": { "app": "nginx", "tier": "web" } } },
            },
        }))
        .unwrap();
        let service = service.map(|spec| serde_json::from_value::<Service>(json!({ "spec": spec })).unwrap());
        let found = service_problem(&set, service.as_ref());
        let told = warning(&set, service.as_ref()).map(|event| event.notice.reason);
        assert_eq!(told, found.as_ref().map(|(reason, _)| *reason));
        found.map(|(reason, _)| reason)
    }

    #[test]
    fn a11_1_a_service_that_gives_no_names_is_told_of() {
        let headless = |selector: Value| Some(json!({ "clusterIP": "None", "selector": selector }));
        assert_eq!(problem("", None), None);
        assert_eq!(problem("nginx", None), Some("ServiceMissing"));
        let with_address = json!({ "clusterIP": "10.96.0.7", "selector": { "app": "nginx" } });
        assert_eq!(problem("nginx", Some(with_address)), Some("ServiceNotHeadless"));
        assert_eq!(
            problem("nginx", headless(json!({ "app": "other" }))),
            Some("ServiceSelectsNone")
        );
        assert_eq!(problem("nginx", headless(json!({}))), Some("ServiceSelectsNone"));
        assert_eq!(problem("nginx", headless(json!({ "app": "nginx" }))), None);
    }
}
