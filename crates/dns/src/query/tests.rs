use super::*;
use proptest::prelude::*;

/// A query with these labels, and what follows the question.
fn packet(labels: &[&[u8]], records: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0];
    packet.extend(records.to_be_bytes());
    for label in labels {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(*label);
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet.extend(rest);
    packet
}

fn code_of(packet: &[u8]) -> Option<u16> {
    match read(packet) {
        Incoming::Refusable(_, code) => Some(code),
        Incoming::Query(_) => Some(code::NO_ERROR),
        Incoming::Junk => None,
    }
}

const OPT: [u8; 11] = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];

#[test]
fn question_is_read_in_lower_case_and_repeated_as_it_was() {
    let bytes = packet(&[b"Web-0", b"nGinx"], 1, &OPT);
    let Incoming::Query(query) = read(&bytes) else { panic!() };
    assert_eq!((query.name(), query.kind, query.class), ("web-0.nginx", 1, 1));
    assert_eq!(query.question, b"\x05Web-0\x05nGinx\x00\x00\x01\x00\x01");
    let edns = Edns {
        payload_bytes: 4096,
        version: 0,
        is_dnssec_ok: true,
    };
    assert_eq!((query.opening.id, query.edns), (0x1234, Some(edns)));
}

#[test]
fn dot_in_a_label_is_not_one_between_two() {
    let bytes = packet(&[b"a.b", b"\xff"], 0, &[]);
    let Incoming::Query(query) = read(&bytes) else { panic!() };
    assert_eq!(query.name(), "a\0b.\0");
}

#[test]
fn root_has_the_empty_name() {
    let bytes = packet(&[], 0, &[]);
    let Incoming::Query(query) = read(&bytes) else { panic!() };
    assert_eq!(query.name(), "");
}

#[test]
fn limits_of_names_hold() {
    let long = [b'a'; 63];
    // 3 × 64 + 62 + 1 = 255.
    assert_eq!(
        code_of(&packet(&[&long, &long, &long, &long[..61]], 0, &[])),
        Some(code::NO_ERROR)
    );
    for labels in [
        &[&long[..], &long, &long, &long[..62]][..],
        &[&long[..], &long, &long, &long],
        &[&[b'a'; 64][..]],
    ] {
        assert_eq!(code_of(&packet(labels, 0, &[])), Some(code::FORMAT_ERROR));
    }
}

#[test]
fn what_cannot_be_a_query_is_refused_or_ignored() {
    let good = packet(&[b"a"], 0, &[]);
    assert_eq!(code_of(&good), Some(code::NO_ERROR));
    for length in 0..good.len() {
        let expected = (length >= HEADER_BYTES).then_some(code::FORMAT_ERROR);
        assert_eq!(code_of(&good[..length]), expected, "{length}");
    }
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        code_of(&packet)
    };
    assert_eq!(with(2, 0x81), None, "an answer");
    assert_eq!(with(2, 0x11), Some(code::NOT_IMPLEMENTED), "another operation");
    assert_eq!(with(5, 0), Some(code::FORMAT_ERROR), "no question");
    assert_eq!(with(5, 2), Some(code::FORMAT_ERROR), "two questions");
    assert_eq!(with(HEADER_BYTES, 0xc0), Some(code::FORMAT_ERROR), "a pointer");
    assert_eq!(with(11, 1), Some(code::FORMAT_ERROR), "a record that is not there");
    let two = [OPT, OPT].concat();
    assert_eq!(
        code_of(&packet(&[b"a"], 2, &two)),
        Some(code::FORMAT_ERROR),
        "OPT twice"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), is_likely in any::<bool>()) {
        let mut bytes = bytes;
        if is_likely && bytes.len() >= HEADER_BYTES {
            bytes[2] &= 0x07;
            bytes[4..10].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            bytes[10] = 0;
        }
        if let Incoming::Query(query) = read(&bytes) {
            prop_assert!(query.name().len() < NAME_BYTES_MAX);
        }
    }
}
