//! The addresses behind Services: EndpointSlices, and the older Endpoints that some clients still read.
//!
//! A pod is behind a Service if the Service's selector selects it, it has an address and it has not come to its end.
//! The addresses of Services without selector are somebody else's business; Endpoints that are kept for them are
//! mirrored into EndpointSlices.

pub mod legacy;
mod member;
pub mod mirror;
pub mod slices;

use api::k8s::api::core::v1::{Pod, Service};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub use member::concerns_endpoints;

/// On EndpointSlices and Endpoints of headless Services.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Whether a Service's addresses are found by its selector.
pub fn has_members(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let is_external = spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
    !is_external
        && spec
            .and_then(|spec| spec.selector.as_ref())
            .is_some_and(|selector| !selector.is_empty())
}

/// Whether a Service's selector selects a pod; a Service without selector selects none.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    matches!(address, None | Some("" | "None"))
}

/// The Service's labels, with ours on top.
fn labels_for(service: &Service, ours: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.extend(ours.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    labels
}

/// The merge patch from one map of labels (or annotations) to another; `None` if they are the same.
fn labels_patch(is: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> Option<Value> {
    let none = BTreeMap::new();
    let is = is.unwrap_or(&none);
    if is == wanted {
        return None;
    }
    let mut patch: Map<String, Value> = wanted.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    for key in is.keys().filter(|key| !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}
