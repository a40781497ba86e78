//! Patches of the three plain types. The first byte says type and kind; the object is before the line end, the patch behind.

#![no_main]

use api::patch;
use api::schema::{self, FieldValidation};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let kind = fuzz::kind(choice / 3);
    let (object, patch) = fuzz::halves(rest);
    let (Some(object), Some(patch)) = (fuzz::json(object), fuzz::json(patch)) else {
        return;
    };
    if !object.is_object() {
        return;
    }
    let patched = match choice % 3 {
        0 => patch::json(&object, &patch),
        1 => patch::merge(&object, &patch),
        _ => patch::strategic(kind.schema, &object, &patch),
    };
    if let Ok(patched) = patched {
        // Whether it is still an object of its kind is asked by the decoder.
        drop(schema::decode_value(kind.schema, patched, FieldValidation::Warn));
    }
});
