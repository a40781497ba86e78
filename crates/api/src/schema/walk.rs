//! Walks over the parts of an object by their types, for those who fill in defaults or bring values into one form.

use super::table::{self, Shape, Type};
use serde_json::{Map, Value};

/// Calls `visit` with each value inside `value` whose type is a named one, and that name (e.g.
/// `io.k8s.api.core.v1.Container`); a value before what is inside it, the object itself (`schema`) first.
///
/// Fields that the schema does not know, and values of another shape than it says, are passed over.
pub fn for_each_named(schema: &str, value: &mut Value, visit: &mut dyn FnMut(&'static str, &mut Value)) {
    if let Some(of) = table::by_name(schema) {
        walk_type(of, value, visit);
    }
}

/// Calls `visit` with each value inside `value` of the type `name`, e.g.
/// `io.k8s.apimachinery.pkg.api.resource.Quantity`; the short name (`Quantity`) does as well.
pub fn for_each_typed(schema: &str, value: &mut Value, name: &str, visit: &mut dyn FnMut(&mut Value)) {
    for_each_named(schema, value, &mut |found, value| {
        if found == name || found.strip_suffix(name).is_some_and(|package| package.ends_with('.')) {
            visit(value);
        }
    });
}

/// Adds, at every depth, the fields that Kubernetes' Go types write even when they are not set: empty structs
/// (`status: {}`, `resources: {}`), zero numbers and empty strings (`replicas: 0`), nulls (`lastTransitionTime`, `rules`).
pub fn fill_zero(schema: &str, value: &mut Value) {
    if let Some(of) = table::by_name(schema) {
        fill_type(of, value);
    }
}

/// What Go writes for a value of the type of which nothing is set.
pub(crate) fn zero(of: &Type) -> Value {
    let mut value = Value::Object(Map::new());
    fill_type(of, &mut value);
    value
}

fn walk_type(of: &'static Type, value: &mut Value, visit: &mut dyn FnMut(&'static str, &mut Value)) {
    visit(of.name, value);
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            if let Some((_, field)) = of.field(name) {
                walk_shape(&field.shape, value, visit);
            }
        }
    }
}

fn walk_shape(shape: &'static Shape, value: &mut Value, visit: &mut dyn FnMut(&'static str, &mut Value)) {
    match (shape, value) {
        (Shape::Named(id), value) => walk_type(table::by_id(*id), value, visit),
        (Shape::Array(item), Value::Array(items)) => items.iter_mut().for_each(|value| walk_shape(item, value, visit)),
        (Shape::Map(of), Value::Object(values)) => values.values_mut().for_each(|value| walk_shape(of, value, visit)),
        _ => {}
    }
}

fn fill_type(of: &Type, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for field in &of.fields {
        if let Some(value) = fields.get_mut(field.name) {
            fill_shape(&field.shape, value);
        } else if let Some(zero) = field.zero {
            let mut value = serde_json::from_str(zero).expect("the table's zeros are JSON, a test says so");
            fill_shape(&field.shape, &mut value);
            fields.insert(field.name.to_owned(), value);
        }
    }
}

fn fill_shape(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Named(id), value) => fill_type(table::by_id(*id), value),
        (Shape::Array(item), Value::Array(items)) => items.iter_mut().for_each(|value| fill_shape(item, value)),
        (Shape::Map(of), Value::Object(values)) => values.values_mut().for_each(|value| fill_shape(of, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_zero_is_json_and_of_its_type() {
        for of in table::types() {
            let mut value = zero(of);
            for_each_named(of.name, &mut value, &mut |_, _| ());
        }
    }

    #[test]
    fn quantities_are_found_wherever_they_stand() {
        let mut set = json!({"spec": {
            "template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}], "overhead": {"cpu": 2}}},
            "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}],
        }});
        let mut found = Vec::new();
        for_each_typed("io.k8s.api.apps.v1.StatefulSet", &mut set, "Quantity", &mut |value| {
            found.push(value.clone())
        });
        found.sort_by_key(ToString::to_string);
        assert_eq!(found, [json!("1"), json!("1Gi"), json!(2)]);
    }

    /// The status that kube-apiserver shows of a StatefulSet nothing was done for yet, and the null times of a condition.
    #[test]
    fn zeros_are_what_upstream_shows() {
        let mut set = json!({"status": {"conditions": [{"type": "T", "status": "True"}]}});
        fill_zero("io.k8s.api.apps.v1.StatefulSet", &mut set);
        let condition = json!({"type": "T", "status": "True", "lastTransitionTime": null});
        assert_eq!(
            set["status"],
            json!({"replicas": 0, "availableReplicas": 0, "conditions": [condition]})
        );
        let mut role = json!({"metadata": {}});
        fill_zero("io.k8s.api.rbac.v1.Role", &mut role);
        assert_eq!(role, json!({"metadata": {}, "rules": null}));
    }
}
