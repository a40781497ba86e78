//! `status.typeChecking`: what the rules of a policy get wrong about the types of the objects that it is about.
//!
//! A rule is taken whatever the types are, for nobody knows all versions of a kind; so this only warns.

use super::compile::compile;
use super::types;
use crate::kinds::{KindRef, kinds};
use cel::Type;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many kinds are looked at, as upstream has it.
const KINDS_MAX: usize = 10;

/// `status.typeChecking` of a policy; `custom` are the custom resources that are served.
pub fn warnings(spec: &Value, custom: &[KindRef]) -> Value {
    // By the place of the rule, in the order of the rules.
    let mut found: Vec<(String, String)> = Vec::new();
    let params = params_type(&spec["paramKind"], custom);
    for (shown, kind) in checked(&spec["matchConstraints"]["resourceRules"], custom) {
        let (_, problems) = compile(spec, types::of_kind(&kind), params.clone());
        for problem in problems {
            if !problem.field.starts_with("spec.validations") {
                continue;
            }
            let why = problem.why.strip_prefix("compilation failed: ").unwrap_or(&problem.why);
            let text = format!("{shown}: {why}\n");
            match found.iter_mut().find(|(field, _)| *field == problem.field) {
                Some((_, known)) => known.push_str(&text),
                None => found.push((problem.field, text)),
            }
        }
    }
    found.sort_by_key(|(field, _)| place(field));
    let warnings: Vec<Value> = found
        .into_iter()
        .map(|(field, warning)| json!({"fieldRef": field, "warning": warning}))
        .collect();
    if warnings.is_empty() {
        json!({})
    } else {
        json!({ "expressionWarnings": warnings })
    }
}

/// Which validation a field is of, and whether it is its message.
fn place(field: &str) -> (usize, bool) {
    let index = field.split(['[', ']']).nth(1).and_then(|index| index.parse().ok());
    (index.unwrap_or(usize::MAX), field.ends_with("messageExpression"))
}

fn params_type(kind: &Value, custom: &[KindRef]) -> Type {
    let text = |field: &str| kind[field].as_str().unwrap_or_default();
    let all = kinds().iter().map(KindRef::from).chain(custom.iter().cloned());
    let mut named = all.filter(|one| one.api_version() == text("apiVersion") && one.kind == text("kind"));
    named.next().map_or(Type::Dyn, |kind| types::of_kind(&kind))
}

/// The kinds that rules name without wildcards, by the names that upstream gives them.
fn checked(rules: &Value, custom: &[KindRef]) -> BTreeMap<String, KindRef> {
    let mut found = BTreeMap::new();
    for rule in rules.as_array().into_iter().flatten() {
        let texts = |field: &str| -> Vec<&str> {
            let list = rule[field].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).collect()
        };
        let (groups, versions, resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if [&groups, &versions, &resources].iter().any(|list| list.contains(&"*")) {
            continue;
        }
        let all = kinds().iter().map(KindRef::from).chain(custom.iter().cloned());
        for kind in all.filter(|kind| {
            groups.contains(&kind.group) && versions.contains(&kind.version) && resources.contains(&kind.plural)
        }) {
            if found.len() < KINDS_MAX {
                found.insert(format!("{}, Kind={}", kind.api_version(), kind.kind), kind);
            }
        }
    }
    found
}
