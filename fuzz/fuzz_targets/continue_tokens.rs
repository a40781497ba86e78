//! Continue tokens: what is taken leads to one place.

#![no_main]

use api::continue_token::Place;

libfuzzer_sys::fuzz_target!(|token: &str| {
    if let Ok(place) = Place::decode(token) {
        assert_eq!(Place::decode(&place.encode()), Ok(place));
    }
});
