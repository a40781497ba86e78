//! Invariant 4: a claim goes only because a user or the retention policy says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Change, ordinal_of};
use crate::request::CLAIMS;

/// What may have made claims go, ever since they were made.
#[derive(Default)]
pub(super) struct Claims {
    by_user: BTreeSet<String>,
    /// Sets that have said `whenScaled: Delete`, and those that have said `whenDeleted: Delete`.
    scaled: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Sets that have been deleted.
    ended: BTreeSet<String>,
    /// Ordinals that have been out of a set's range.
    condemned: BTreeMap<String, BTreeSet<i64>>,
}

/// Ordinals that anything here has.
const ORDINALS: std::ops::Range<i64> = 0..16;

impl Claims {
    pub(super) fn user_deletes(&mut self, path: &str) {
        if let Some(claim) = path.strip_prefix(&format!("{CLAIMS}/")) {
            self.by_user.insert(claim.to_owned());
        }
    }

    /// Looks at a change; what is wrong with it.
    pub(super) fn look(&mut self, change: &Change, objects: &BTreeMap<(String, String), Value>) -> Option<String> {
        match change.kind.as_str() {
            "statefulsets" => self.note(&change.name, change.new.as_ref()),
            "persistentvolumeclaims" => return self.judge(change, objects),
            _ => {}
        }
        None
    }

    fn note(&mut self, set: &str, new: Option<&Value>) {
        let Some(new) = new else {
            self.ended.insert(set.to_owned());
            return;
        };
        let policy = &new["spec"]["persistentVolumeClaimRetentionPolicy"];
        if policy["whenScaled"] == "Delete" {
            self.scaled.insert(set.to_owned());
        }
        if policy["whenDeleted"] == "Delete" {
            self.deleted.insert(set.to_owned());
        }
        if !new["metadata"]["deletionTimestamp"].is_null() {
            self.ended.insert(set.to_owned());
        }
        let start = new["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
        let wanted = start..start + new["spec"]["replicas"].as_i64().unwrap_or(1);
        let outside = ORDINALS.filter(|ordinal| !wanted.contains(ordinal));
        self.condemned.entry(set.to_owned()).or_default().extend(outside);
    }

    fn judge(&mut self, change: &Change, objects: &BTreeMap<(String, String), Value>) -> Option<String> {
        let name = &change.name;
        let was_going = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
        let goes_now = match (&change.old, &change.new) {
            (Some(old), Some(new)) => !was_going(old) && was_going(new),
            (Some(old), None) => !was_going(old),
            _ => false,
        };
        if change.new.is_none() {
            let by_user = self.by_user.remove(name);
            if by_user || !goes_now {
                return None;
            }
        }
        if !goes_now || self.by_user.contains(name) || is_being_deleted_by_user(name, objects) {
            return None;
        }
        let set = name.strip_prefix("www-")?.rsplit_once('-')?.0;
        let ordinal = ordinal_of(name)?;
        let was_condemned = self.condemned.get(set).is_some_and(|known| known.contains(&ordinal));
        let by_scaling = self.scaled.contains(set) && (was_condemned || self.ended.contains(set));
        let by_deletion = self.deleted.contains(set) && self.ended.contains(set);
        (!by_scaling && !by_deletion).then(|| format!("invariant 4: {name} goes, and neither user nor policy said so"))
    }
}

/// The user's request may have been committed and not been answered yet; it is announced by an annotation.
fn is_being_deleted_by_user(name: &str, objects: &BTreeMap<(String, String), Value>) -> bool {
    let key = ("persistentvolumeclaims".to_owned(), name.to_owned());
    objects
        .get(&key)
        .is_some_and(|claim| !claim["metadata"]["annotations"]["sim/condemned"].is_null())
}
