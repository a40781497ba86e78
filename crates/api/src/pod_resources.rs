//! Amounts of resources: what a pod asks for, what a node has to give.

use crate::k8s::api::core::v1::{Container, Pod, PodSpec};
use crate::k8s::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

/// 100m, as upstream.
const CPU_DEFAULT_NANOS: i128 = 100_000_000;
/// 200Mi, as upstream.
const MEMORY_DEFAULT_NANOS: i128 = 200 * 1024 * 1024 * 1_000_000_000;

/// Amounts by resource name, in nano-units so that nothing is ever rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i128>);

impl Resources {
    /// From a list as objects have it; a text that is no quantity counts as nothing (the API server refuses those).
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let amount = |text: &Text| crate::quantity::parse(&text.0).map_or(0, |quantity| quantity.nanos);
        Self(
            list.into_iter()
                .flatten()
                .map(|(name, text)| (name.clone(), amount(text)))
                .collect(),
        )
    }

    /// The amount of one resource; none is zero.
    pub fn get(&self, name: &str) -> i128 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i128)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds each amount of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    /// Takes each amount of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= amount;
        }
    }

    /// CPU and memory as they count when nodes are compared: a pod that asks for nothing still takes something.
    pub fn footprint(&self) -> Self {
        let or = |amount: i128, default: i128| if amount == 0 { default } else { amount };
        let cpu = or(self.get("cpu"), CPU_DEFAULT_NANOS);
        let memory = or(self.get("memory"), MEMORY_DEFAULT_NANOS);
        Self(BTreeMap::from([("cpu".to_owned(), cpu), ("memory".to_owned(), memory)]))
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }

    fn replace(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.0.insert(name.clone(), *amount);
        }
    }
}

/// What a pod needs at its hungriest moment: its containers together, or an init container beside the sidecars that
/// were started before it, whichever is more; overridden by requests of the whole pod; plus the overhead of its runtime.
pub fn requests_of(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let mut total = containers_together(spec);
    if let Some(whole_pod) = &spec.resources {
        total.replace(&Resources::of(whole_pod.requests.as_ref()));
    }
    total.add(&Resources::of(spec.overhead.as_ref()));
    total
}

fn containers_together(spec: &PodSpec) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests_of_container(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for init in spec.init_containers.iter().flatten() {
        let mut moment = requests_of_container(init);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&moment);
            moment = sidecars.clone();
        } else {
            moment.add(&sidecars);
        }
        starting.raise_to(&moment);
    }
    running.add(&sidecars);
    running.raise_to(&starting);
    running
}

fn requests_of_container(container: &Container) -> Resources {
    Resources::of(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, cpu_millis: i128) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        assert_eq!(requests_of(&pod).get("cpu"), cpu_millis * 1_000_000);
    }

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> serde_json::Value {
        json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up_and_the_hungriest_moment_counts() {
        check(json!({"containers": [container("100m"), container("1")]}), 1100);
        check(
            json!({"containers": [container("100m")], "initContainers": [container("500m"), container("200m")]}),
            500,
        );
        check(
            json!({"containers": [container("100m")], "initContainers": [sidecar("300m"), container("200m")]}),
            500,
        );
        check(
            json!({"containers": [container("400m")], "initContainers": [container("200m"), sidecar("300m")]}),
            700,
        );
        check(
            json!({"containers": [container("100m")], "overhead": {"cpu": "50m"}}),
            150,
        );
        check(
            json!({"containers": [container("100m")], "resources": {"requests": {"cpu": "2"}}}),
            2000,
        );
    }
}
