//! What a pod's failure means to its job, and when enough has succeeded.

use api::k8s::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, SuccessPolicy,
};
use api::k8s::api::core::v1::{ContainerStatus, Pod};

use crate::pods::{condition, name_of};

use super::indexes::Indexes;

/// What a pod's failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Counts,
    /// It does not count.
    Ignored,
    /// Its index has failed.
    FailsIndex,
    /// The job has failed, with this message.
    FailsJob(String),
}

impl Verdict {
    /// Whether it is a step towards the limit.
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignored
    }
}

/// The verdict of the first rule that a failed pod matches.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (at, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
        let what = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit_code(codes, pod),
            (None, Some(patterns)) => pod_condition(patterns, pod),
            (None, None) => None,
        };
        let Some(what) = what else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignored,
            "FailIndex" => Verdict::FailsIndex,
            "FailJob" => Verdict::FailsJob(format!("{what} matching {} rule at index {at}", rule.action)),
            _ => Verdict::Counts,
        };
    }
    Verdict::Counts
}

fn exit_code(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let mut containers = containers.chain(status.init_container_statuses.iter().flatten());
    let is_meant =
        |container: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    let code = |container: &ContainerStatus| Some(container.state.as_ref()?.terminated.as_ref()?.exit_code);
    let matches = |code: i32| match codes.operator.as_str() {
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    };
    let found = containers
        .find(|container| is_meant(container) && code(container).is_some_and(|code| code != 0 && matches(code)))?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (container, pod) = (&found.name, name_of(&pod.metadata));
    Some(format!(
        "Container {container} for pod {namespace}/{pod} failed with exit code {}",
        code(found)?
    ))
}

fn pod_condition(patterns: &[PodFailurePolicyOnPodConditionsPattern], pod: &Pod) -> Option<String> {
    let found = patterns.iter().find(|pattern| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        condition(pod, &pattern.type_).is_some_and(|known| known.status == wanted)
    })?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!(
        "Pod {namespace}/{} has condition {}",
        name_of(&pod.metadata),
        found.type_
    ))
}

/// The first rule by which enough indexes have succeeded.
pub(super) fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.len() == 0 {
        return None;
    }
    let is_met = |indexes: Option<&String>, count: Option<i32>| match indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let matched = wanted.common(succeeded);
            matched == wanted.len() || count.is_some_and(|count| matched >= count)
        }
        None => count.is_some_and(|count| succeeded.len() >= count),
    };
    let mut rules = policy?.rules.iter();
    let at = rules.position(|rule| is_met(rule.succeeded_indexes.as_ref(), rule.succeeded_count))?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn failed(code: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d"},
            "status": {
                "phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": "True"}],
                "containerStatuses": [{
                    "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}},
                }],
            },
        }))
        .unwrap()
    }

    fn verdict(rules: Value, code: i32) -> Verdict {
        let policy = serde_json::from_value(json!({ "rules": rules })).unwrap();
        judge(Some(&policy), &failed(code))
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let on_code = |action: &str, operator: &str, codes: &[i32]| {
            json!({
                "action": action, "onExitCodes": {"operator": operator, "values": codes},
            })
        };
        let disrupted =
            json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
        let message = "Container main for pod d/p failed with exit code 3 matching FailJob rule at index 1";
        assert_eq!(verdict(json!([]), 3), Verdict::Counts);
        assert_eq!(verdict(json!([disrupted]), 3), Verdict::Ignored);
        assert_eq!(
            verdict(json!([on_code("Count", "In", &[3]), disrupted]), 3),
            Verdict::Counts
        );
        assert_eq!(
            verdict(json!([on_code("FailIndex", "NotIn", &[1, 2])]), 3),
            Verdict::FailsIndex
        );
        assert_eq!(
            verdict(
                json!([on_code("Ignore", "In", &[4]), on_code("FailJob", "In", &[3])]),
                3
            ),
            Verdict::FailsJob(message.to_owned())
        );
        // A code of 0 is no failure, whatever the rule says.
        assert_eq!(verdict(json!([on_code("FailJob", "NotIn", &[1])]), 0), Verdict::Counts);
    }

    #[test]
    fn enough_is_a_count_a_set_or_a_part_of_a_set() {
        let met = |rules: Value, done: &str| {
            let policy = serde_json::from_value(json!({ "rules": rules })).unwrap();
            success(Some(&policy), 10, &Indexes::parse(done, 10))
        };
        assert_eq!(met(json!([{"succeededCount": 2}]), "1"), None);
        assert_eq!(
            met(json!([{"succeededCount": 2}]), "1,5").as_deref(),
            Some("Matched rules at index 0")
        );
        assert_eq!(met(json!([{"succeededIndexes": "0-2"}]), "0,1,5"), None);
        assert_eq!(
            met(
                json!([{"succeededIndexes": "9"}, {"succeededIndexes": "0-2", "succeededCount": 1}]),
                "1"
            )
            .as_deref(),
            Some("Matched rules at index 1")
        );
        assert_eq!(met(json!([{"succeededCount": 0}]), ""), None);
    }
}
