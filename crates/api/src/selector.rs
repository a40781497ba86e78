//! Label selectors (as text and as `LabelSelector` objects) and field selectors.

use crate::kinds::Kind;
use serde_json::Value;

/// A parsed label selector; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The relation.
    pub operator: Operator,
    /// The values related to; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// A relation of a label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`, `==`, `in`.
    In,
    /// `!=`, `notin`: also true without the label.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
}

/// Parses the text of a `labelSelector` parameter.
///
/// # Errors
/// Upstream's words for what cannot be parsed.
pub fn parse_labels(_text: &str) -> Result<LabelSelector, String> {
    unimplemented!()
}

impl LabelSelector {
    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`).
    ///
    /// # Errors
    /// Upstream's words for an operator or key that is not valid.
    pub fn from_object(_selector: &Value) -> Result<Self, String> {
        unimplemented!()
    }

    /// Whether `metadata.labels` of an object (null or a map) is selected.
    pub fn matches(&self, _labels: &Value) -> bool {
        unimplemented!()
    }

    /// The selector's text, as `/scale` shows it.
    pub fn to_text(&self) -> String {
        unimplemented!()
    }
}

/// A parsed field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// (path, whether equal, value), all must hold.
    pub terms: Vec<(String, bool, String)>,
}

/// Parses the text of a `fieldSelector` parameter for a kind.
///
/// # Errors
/// Upstream's words for syntax errors and for fields that the kind does not support.
pub fn parse_fields(_kind: &Kind, _text: &str) -> Result<FieldSelector, String> {
    unimplemented!()
}

impl FieldSelector {
    /// Whether an object is selected.
    pub fn matches(&self, _object: &Value) -> bool {
        unimplemented!()
    }
}
