//! Label selectors (as text and as `LabelSelector` objects) and field selectors.

mod fields;
mod labels;

pub use fields::{FieldSelector, parse_fields};
pub use labels::{LabelSelector, Operator, Requirement, parse_labels};
