//! Which objects of a collection a request is about.

use crate::query::Query;
use crate::status::{Outcome, bad_request};
use crate::stored::Stored;
use api::kinds::KindRef;
use api::selector::{self, FieldSelector, LabelSelector};
use serde_json::Value;

/// A label selector and a field selector together.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    kind: KindRef,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    pub(crate) fn of(kind: &KindRef, query: &Query) -> Outcome<Self> {
        let labels = query
            .get("labelSelector")
            .map(selector::parse_labels)
            .transpose()
            .map_err(bad_request)?;
        let fields = query
            .get("fieldSelector")
            .map(|text| selector::parse_fields(kind, text));
        let fields = fields.transpose().map_err(bad_request)?;
        Ok(Self {
            kind: kind.clone(),
            labels: labels.unwrap_or_default(),
            fields: fields.unwrap_or_default(),
        })
    }

    /// Whether every object is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.terms.is_empty()
    }

    /// The only name that can be selected, if the selector says so.
    pub(crate) fn name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// The only namespace that can be selected, if the selector says so.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.exact("metadata.namespace")
    }

    fn exact(&self, path: &str) -> Option<&str> {
        self.fields
            .terms
            .iter()
            .find(|(field, equal, _)| field == path && *equal)
            .map(|(_, _, value)| value.as_str())
    }

    /// Whether a stored object is selected; parses as little as the selectors need.
    pub(crate) fn selects(&self, stored: &Stored) -> bool {
        if !self.labels.requirements.is_empty() && !self.labels.matches(&stored.labels()) {
            return false;
        }
        self.fields.terms.is_empty()
            || stored
                .object(&self.kind)
                .is_ok_and(|object| self.fields.matches(&object))
    }

    /// Whether an object that is parsed already is selected.
    pub(crate) fn selects_object(&self, object: &Value) -> bool {
        (self.labels.requirements.is_empty() || self.labels.matches(&object["metadata"]["labels"]))
            && (self.fields.terms.is_empty() || self.fields.matches(object))
    }
}
