//! A job selects its pods by its own uid, unless it says that people care for the selector.

use serde_json::{Value, json};

/// The label of pods with their job's uid, by which they are selected.
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// Gives a new job's selector and template what makes its pods its own; name and uid must be there.
pub(super) fn select_own(job: &mut Value) {
    let (name, uid) = (job["metadata"]["name"].clone(), job["metadata"]["uid"].clone());
    let spec = &mut job["spec"];
    if !spec.is_object() || spec["manualSelector"] == true {
        return;
    }
    let labels = [
        ("batch.kubernetes.io/job-name", &name),
        (UID_LABEL, &uid),
        // What the two were called before labels of Kubernetes' own got a prefix.
        ("job-name", &name),
        ("controller-uid", &uid),
    ];
    let own = &mut spec["template"]["metadata"]["labels"];
    for (key, value) in labels {
        if own[key].is_null() {
            own[key] = value.clone();
        }
    }
    let selector = &mut spec["selector"]["matchLabels"];
    if !selector.is_object() {
        *selector = json!({});
    }
    if selector[UID_LABEL].is_null() {
        selector[UID_LABEL] = uid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_by_its_uid_unless_people_do() {
        let job = |spec: Value| {
            let mut job = json!({"metadata": {"name": "a", "uid": "1"}, "spec": spec});
            select_own(&mut job);
            job["spec"].clone()
        };
        let own = job(json!({"template": {"metadata": {"labels": {"app": "x"}}}}));
        assert_eq!(own["selector"], json!({"matchLabels": {UID_LABEL: "1"}}));
        assert_eq!(
            own["template"]["metadata"]["labels"],
            json!({
                "app": "x", "job-name": "a", "controller-uid": "1",
                "batch.kubernetes.io/job-name": "a", UID_LABEL: "1",
            })
        );
        let manual = json!({"manualSelector": true, "selector": {"matchLabels": {"app": "x"}}, "template": {}});
        assert_eq!(job(manual.clone()), manual);
    }
}
