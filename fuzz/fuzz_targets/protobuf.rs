//! Protobuf bodies: what is taken can be written, and is the same when it is read again.

#![no_main]

use api::protobuf;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(object) = protobuf::decode(body) else {
        return;
    };
    let Some(written) = protobuf::encode(&object) else {
        return;
    };
    let again = protobuf::decode(&written).expect("what we write is protobuf");
    let settled = protobuf::encode(&again).and_then(|bytes| protobuf::decode(&bytes).ok());
    assert_eq!(settled.as_ref(), Some(&again));
});
