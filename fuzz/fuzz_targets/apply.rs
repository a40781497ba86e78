//! Server-side apply: of whatever was stored (with whatever managers it says it has) and whatever is applied. The first
//! byte is the kind; what is stored is before the line end, what is applied behind.

#![no_main]

use api::apply::{self, Writer};
use api::schema::{self, FieldValidation};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let kind = fuzz::kind(*choice);
    let (stored, applied) = fuzz::halves(rest);
    let decode = |text| {
        schema::decode(kind.schema, text, FieldValidation::Warn)
            .ok()
            .map(|decoded| decoded.object)
    };
    let (Some(mut stored), Some(applied)) = (decode(stored), decode(applied)) else {
        return;
    };
    let writer = |manager| Writer {
        manager,
        subresource: "",
        time: "2026-01-01T00:00:00Z",
    };
    // Managers that the client sent are taken as far as they can be read.
    apply::track_update(kind, None, &mut stored, &writer("creator"));
    let forced = apply::apply(kind, Some(&stored), &applied, &writer("first"), true);
    let Ok(forced) = forced else {
        return;
    };
    // Who has applied something may apply it again, and nothing changes.
    let again = apply::apply(kind, Some(&forced), &applied, &writer("first"), false).expect("its own fields");
    let content = |object: &serde_json::Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        object
    };
    assert_eq!(
        content(&again),
        content(&forced),
        "an apply that is repeated changes something"
    );
});
