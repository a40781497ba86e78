//! What the mutations of a policy make of an object.

use super::compile::{Mutation, PatchType, Policy};
use super::environment::Subject;
use super::judge::Asking;
use crate::apply;
use crate::kinds::Kind;
use crate::patch;
use serde_json::{Value, json};

impl Policy {
    /// Makes the changes of a policy to an object that is about to be written; `None` if it makes none.
    ///
    /// # Errors
    /// What failed, if the policy does not take that lightly.
    pub fn mutate(
        &self,
        kind: &Kind,
        subject: &Subject,
        params: Option<&Value>,
        object: &Value,
    ) -> Result<Option<Value>, String> {
        match self.changed(kind, subject, params, object) {
            Err(why) if self.fails => Err(why),
            Err(_) => Ok(None),
            changed => changed,
        }
    }

    fn changed(
        &self,
        kind: &Kind,
        subject: &Subject,
        params: Option<&Value>,
        object: &Value,
    ) -> Result<Option<Value>, String> {
        if !Asking::of_conditions(self, subject, params).conditions()? {
            return Ok(None);
        }
        let mut changed = object.clone();
        for mutation in &self.mutations {
            // Each mutation sees what those before it have made.
            let subject = subject.clone().with_object(&changed);
            let made = Asking::of_rules(self, &subject, params).value(&mutation.expression)?;
            let made = made.to_json().ok_or_else(|| {
                let text = &mutation.expression.text;
                format!("expression '{text}' resulted in a value that is no JSON")
            })?;
            changed = match mutation.patch {
                PatchType::ApplyConfiguration => applied(kind, &changed, made)?,
                PatchType::JsonPatch => patched(mutation, &changed, &made)?,
            };
        }
        Ok(Some(changed))
    }
}

fn applied(kind: &Kind, object: &Value, mut made: Value) -> Result<Value, String> {
    if let Some(fields) = made.as_object_mut() {
        fields.insert("apiVersion".to_owned(), object["apiVersion"].clone());
        fields.insert("kind".to_owned(), object["kind"].clone());
    }
    apply::overlay(kind, object, &made)
        .map_err(|why| format!("error applying patch: invalid ApplyConfiguration: {why}"))
}

fn patched(mutation: &Mutation, object: &Value, made: &Value) -> Result<Value, String> {
    // A value that is not given is a null to those operations that want one.
    let operations = made.as_array().into_iter().flatten().map(|operation| {
        let mut operation = operation.clone();
        let wants = matches!(operation["op"].as_str(), Some("add" | "replace" | "test"));
        if wants && operation.get("value").is_none() {
            operation["value"] = Value::Null;
        }
        operation
    });
    let operations: Vec<Value> = operations.collect();
    let mut current = object.clone();
    for operation in operations {
        current = match patch::json(&current, &json!([operation])) {
            Ok(current) => current,
            // A test that fails is no error: the object stays as it is.
            Err(_) if operation["op"] == "test" => return Ok(object.clone()),
            Err(error) => {
                let text = &mutation.expression.text;
                return Err(format!("error applying patch: JSON Patch of '{text}': {error}"));
            }
        };
    }
    Ok(current)
}
