//! Default values from the schema.

use super::schema::{Schema, is_type_or_metadata};
use serde_json::Value;

/// Fills in what is absent. A null where none is allowed counts as absent, so it gives way to the default or goes.
pub(crate) fn fill(schema: &Schema, value: &mut Value, is_object: bool) {
    match value {
        Value::Object(fields) => {
            for (name, of) in &schema.properties {
                if is_object && is_type_or_metadata(name) {
                    continue;
                }
                let Some(default) = &of.default else { continue };
                let is_absent = fields.get(name).is_none_or(|value| value.is_null() && !of.nullable);
                if is_absent {
                    fields.insert(name.clone(), default.clone());
                }
            }
            fields.retain(|name, value| {
                let of = schema.field(name).filter(|_| !(is_object && is_type_or_metadata(name)));
                !(value.is_null() && of.is_some_and(|of| !of.nullable && (of.of.is_some() || of.int_or_string)))
            });
            for (name, value) in fields {
                if let Some(of) = schema.field(name).filter(|_| !(is_object && is_type_or_metadata(name))) {
                    fill(of, value, of.embedded);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for item in items {
                    if let Some(default) = of.default.as_ref().filter(|_| item.is_null() && !of.nullable) {
                        *item = default.clone();
                    }
                    fill(of, item, of.embedded);
                }
            }
        }
        _ => {}
    }
}
