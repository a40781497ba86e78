//! DefaultTolerationSeconds: pods stay five minutes on a node that is lost, unless they say otherwise.

use super::{Operation, Review};
use crate::create::text;
use serde_json::{Value, json};

const TOLERATED_S: u32 = 300;

pub(super) fn mutate(review: &Review<'_>, pod: &mut Value) {
    if review.is("", "Pod", &[Operation::Create, Operation::Update]) {
        tolerate(pod);
    }
}

fn tolerate(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let (key, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
            key.is_none_or(|key| key == taint) && effect.is_none_or(|effect| effect == "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATED_S}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_of_the_author_stand() {
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
        let mut pod = json!({"spec": {}});
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
        let once = pod.clone();
        tolerate(&mut pod);
        assert_eq!(pod, once);
    }
}
