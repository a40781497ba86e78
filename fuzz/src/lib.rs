//! What the targets share: kinds to decode as, and how an input is cut in two.

use api::kinds::{self, Kind};
use serde_json::Value;

/// The kinds that inputs are decoded as: such with every sort of field.
const KINDS: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("apps/v1", "StatefulSet"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Event"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

/// The kind that a byte stands for.
pub fn kind(choice: u8) -> &'static Kind {
    let (api_version, kind) = KINDS[usize::from(choice) % KINDS.len()];
    kinds::by_kind(api_version, kind).expect("the table has it")
}

/// An input of two parts: what is before the first line end, and what is behind.
pub fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let cut = input.iter().position(|byte| *byte == b'\n');
    cut.map_or((input, &[]), |cut| (&input[..cut], &input[cut + 1..]))
}

/// JSON, if it is some.
pub fn json(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}
