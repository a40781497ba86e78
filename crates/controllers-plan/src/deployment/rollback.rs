//! Rolling back by annotation, as clients of the oldest API versions ask for it. (`kubectl rollout undo` writes the
//! template itself.)

use serde_json::json;

use crate::{Action, Event, EventType, Notice, Reason, Step};

use super::Rollout;
use super::revisions::{annotation, is_of_template, revision_of, shared_annotations, without_hash};

/// The annotation with the revision to go back to; 0 is the last one.
pub(super) const ANNOTATION: &str = "deprecated.deployment.rollback.to";

impl Rollout<'_> {
    /// Rolls back if that is asked for; true if this was all there is to do now.
    pub(super) fn roll_back(&mut self) -> bool {
        let Some(wanted) = annotation(self.owner.meta, ANNOTATION).and_then(|text| text.parse::<i64>().ok()) else {
            return false;
        };
        let wanted = if wanted == 0 { self.last_revision() } else { wanted };
        let found = self.all().find(|set| wanted > 0 && revision_of(set) == wanted);
        let template = found.and_then(|set| set.spec.as_ref()?.template.as_ref());
        let mut patch = json!({ "metadata": { "annotations": { ANNOTATION: null } } });
        let (event_type, reason, message) = match (found, template) {
            (Some(set), Some(template)) if !is_of_template(set, &self.spec.template) => {
                let template = without_hash(template);
                for (key, value) in shared_annotations(&set.metadata) {
                    patch["metadata"]["annotations"][key] = json!(value);
                }
                patch["spec"]["template"] =
                    crate::difference::between(&self.spec.template, &template).unwrap_or_default();
                let message = format!("Rolled back deployment \"{}\" to revision {wanted}", self.owner.name());
                (EventType::Normal, "DeploymentRollback", message)
            }
            (Some(_), _) => {
                let message = format!(
                    "The rollback revision contains the same template as current deployment \"{}\"",
                    self.owner.name()
                );
                (EventType::Warning, "DeploymentRollbackTemplateUnchanged", message)
            }
            (None, _) => {
                let message = "Unable to find last revision.".to_owned();
                (EventType::Warning, "DeploymentRollbackRevisionNotFound", message)
            }
        };
        self.draft
            .because
            .push(Reason::acts(self.owner.name(), reason, message.clone()));
        self.draft.events.push(Event {
            about: self.owner.target(),
            event_type,
            notice: Notice { reason, message },
        });
        self.draft
            .steps
            .push(Step::One(Action::patch(self.owner.target(), patch)));
        // Another write of the Deployment would not meet the version that this one leaves.
        self.status.forget();
        true
    }

    /// The highest number but one.
    fn last_revision(&self) -> i64 {
        let mut numbers: Vec<i64> = self.all().map(revision_of).collect();
        numbers.sort_unstable();
        numbers.iter().rev().nth(1).copied().unwrap_or(0)
    }
}
