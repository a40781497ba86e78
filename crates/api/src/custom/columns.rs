//! Printer columns: what `kubectl get` shows of a custom resource.

use super::jsonpath::Path;
use crate::columns::human;
use serde_json::{Value, json};

/// A column of a definition.
#[derive(Debug)]
pub(crate) struct Column {
    name: String,
    of: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<Path>,
}

impl Column {
    /// The columns of a version; its age if it names none.
    pub(crate) fn read_all(columns: &Value) -> Vec<Self> {
        let read = |column: &Value| {
            let text = |name: &str| column[name].as_str().unwrap_or_default().to_owned();
            Self {
                name: text("name"),
                of: text("type"),
                format: text("format"),
                description: text("description"),
                priority: column["priority"].as_i64().unwrap_or(0),
                path: Path::parse(&text("jsonPath")),
            }
        };
        let columns: Vec<Self> = columns.as_array().into_iter().flatten().map(read).collect();
        if !columns.is_empty() {
            return columns;
        }
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "CreationTimestamp is the time at which the server made this object, in UTC."});
        vec![read(&age)]
    }

    /// The column's definition in a table.
    pub(crate) fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.of, "format": self.format, "description": self.description,
            "priority": self.priority})
    }

    /// The cell of an object.
    pub(crate) fn cell(&self, object: &Value, now_s: i64) -> Value {
        let found = self.path.as_ref().and_then(|path| path.first(object));
        let Some(found) = found.filter(|found| !found.is_null()) else {
            return Value::Null;
        };
        match (self.of.as_str(), found) {
            ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => found.clone(),
            ("string", other) => json!(other.to_string()),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(whole) => json!(whole),
                #[expect(clippy::cast_possible_truncation, reason = "a column of integers shows no fractions")]
                None => json!(number.as_f64().unwrap_or(0.0) as i64),
            },
            ("date", Value::String(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => json!(human(now_s.saturating_sub(time.as_second()))),
                Err(_) => json!("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_type_of_their_column() {
        let columns = json!([
            {"name": "A", "type": "integer", "jsonPath": ".spec.a"},
            {"name": "B", "type": "string", "jsonPath": ".spec.b"},
            {"name": "C", "type": "boolean", "jsonPath": ".spec.b"},
            {"name": "D", "type": "date", "jsonPath": ".spec.d"},
            {"name": "E", "type": "string", "jsonPath": ".spec.e"},
        ]);
        let object = json!({"spec": {"a": 3, "b": ["x"], "d": "1970-01-01T00:00:00Z"}});
        let columns = Column::read_all(&columns);
        let cells: Vec<Value> = columns.iter().map(|column| column.cell(&object, 90)).collect();
        assert_eq!(json!(cells), json!([3, "[\"x\"]", null, "90s", null]));
    }

    #[test]
    fn without_columns_there_is_the_age() {
        let columns = Column::read_all(&Value::Null);
        assert_eq!(columns.len(), 1);
        assert_eq!(columns[0].definition()["type"], "date");
    }
}
