//! Quantities: what is taken has one canonical form that means the same.

#![no_main]

use api::quantity;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(canonical) = quantity::canonical(text) else {
        return;
    };
    assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical));
    let (sent, shown) = (quantity::parse(text), quantity::parse(&canonical));
    assert_eq!(sent, shown, "{text:?} is shown as {canonical:?}");
    let parsed = sent.expect("what has a canonical form is a quantity");
    for shown in [parsed.to_decimal(), parsed.to_binary()] {
        assert!(quantity::parse(&shown).is_ok(), "{text:?} is shown as {shown:?}");
    }
});
