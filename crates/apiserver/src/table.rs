//! Tables: what `kubectl get` prints.

use crate::clock;
use crate::negotiate::{Form, Include};
use crate::status::Outcome;
use crate::stored::Stored;
use api::columns;
use api::kinds::Kind;
use serde_json::{Value, json};

/// A table of objects. `metadata` is the list's; `with_columns` is false for all but the first table of a watch.
pub(crate) fn table<'a>(
    kind: &Kind,
    objects: impl Iterator<Item = &'a Stored>,
    (form, include): (Form, Include),
    metadata: Value,
    with_columns: bool,
) -> Outcome<Value> {
    let now_s = clock::now_s();
    let rows: Vec<Value> = objects
        .map(|stored| row(kind, stored, (form, include), now_s))
        .collect::<Outcome<_>>()?;
    let columns = if with_columns {
        columns::definitions(kind)
    } else {
        Value::Null
    };
    Ok(json!({
        "kind": "Table", "apiVersion": form.meta, "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    }))
}

fn row(kind: &Kind, stored: &Stored, (form, include): (Form, Include), now_s: i64) -> Outcome<Value> {
    let object = stored.object(kind)?;
    let cells = columns::cells(kind, &object, now_s);
    let mut row = json!({"cells": cells});
    match include {
        Include::None => {}
        Include::Metadata => row["object"] = partial(form, object["metadata"].clone()),
        Include::Object => row["object"] = object,
    }
    Ok(row)
}

/// A `PartialObjectMetadata`.
pub(crate) fn partial(form: Form, metadata: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": form.meta, "metadata": metadata})
}
