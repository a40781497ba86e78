//! Taints of nodes and what pods tolerate of them.

use api::k8s::api::core::v1::{Taint, Toleration};

/// Whether one of the tolerations covers the taint.
pub(crate) fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// How many `PreferNoSchedule` taints nobody tolerates; the fewer the better.
pub(crate) fn count_disliked(taints: &[Taint], tolerations: &[Toleration]) -> usize {
    taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule" && !is_tolerated(taint, tolerations))
        .count()
}

/// The first taint that keeps new pods away and is not tolerated.
pub(crate) fn first_untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_away = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    taints
        .iter()
        .filter(keeps_away)
        .find(|taint| !is_tolerated(taint, tolerations))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (mine, theirs) = (text(&toleration.value), text(&taint.value));
    let compare = || Some((theirs.parse::<i64>().ok()?, mine.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => mine == theirs,
        "Exists" => true,
        "Gt" => compare().is_some_and(|(value, limit)| value > limit),
        "Lt" => compare().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(toleration: Value, expected: bool) {
        let taint: Taint = serde_json::from_value(json!({"key": "a", "value": "5", "effect": "NoSchedule"})).unwrap();
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
    }

    #[test]
    fn a_toleration_covers_what_upstream_says() {
        check(json!({"operator": "Exists"}), true);
        check(json!({"key": "a", "operator": "Exists"}), true);
        check(json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false);
        check(json!({"key": "a", "value": "5"}), true);
        check(json!({"key": "a", "value": "6"}), false);
        check(json!({"key": "b", "operator": "Exists"}), false);
        check(json!({"key": "a", "operator": "Lt", "value": "6"}), true);
    }
}
