//! Label and field selectors as texts: what is taken can be written down again and selects the same.

#![no_main]

use api::selector;
use serde_json::json;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(selector) = selector::parse_labels(text) {
        let shown = selector.to_text();
        let again = selector::parse_labels(&shown).expect("what is shown is a selector");
        assert_eq!(again.to_text(), shown);
        for labels in [
            json!(null),
            json!({}),
            json!({"a": "b"}),
            json!({"app": "x", "tier": ""}),
        ] {
            assert_eq!(
                selector.matches(&labels),
                again.matches(&labels),
                "{text:?} is shown as {shown:?}"
            );
        }
    }
    let pod = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"nodeName": "n"}});
    for choice in 0..8 {
        if let Ok(selector) = selector::parse_fields(fuzz::kind(choice), text) {
            selector.matches(&pod);
        }
    }
});
