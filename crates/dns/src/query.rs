//! A query as it comes from the network, read by hand: no allocation, and nothing is believed that was not checked.

/// The fixed part of every message (RFC 1035, section 4.1.1).
pub(crate) const HEADER_BYTES: usize = 12;

/// The longest name as it is sent, with the length of each label and the empty one at the end.
const NAME_BYTES_MAX: usize = 255;

const LABEL_BYTES_MAX: u8 = 63;

/// The kinds of records that are told apart here.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The Internet: the only class there is.
pub(crate) const CLASS_IN: u16 = 1;

/// Response codes.
pub(crate) mod code {
    pub(crate) const NO_ERROR: u16 = 0;
    pub(crate) const FORMAT_ERROR: u16 = 1;
    pub(crate) const SERVER_FAILURE: u16 = 2;
    pub(crate) const NAME_ERROR: u16 = 3;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    /// Too large for the header; the rest stands in the OPT record (RFC 6891).
    pub(crate) const BAD_VERSION: u16 = 16;
}

const IS_RESPONSE: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const DNSSEC_OK: u32 = 0x8000;

/// What came in.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at at once, and a box would cost an allocation a query"
)]
pub(crate) enum Incoming<'a> {
    /// Something to answer.
    Query(Query<'a>),
    /// Something to refuse, with a response code.
    Refusable(Opening, u16),
    /// Nothing that may be answered: it is no message, or itself an answer.
    Junk,
}

/// The first words of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) id: u16,
    pub(crate) flags: u16,
}

/// One question.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) opening: Opening,
    /// The question as it was written; an answer repeats it to the letter.
    pub(crate) question: &'a [u8],
    name: Text,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
}

/// What the client can do beyond the first standard (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload_bytes: u16,
    pub(crate) version: u8,
    pub(crate) is_dnssec_ok: bool,
}

/// A name in lower case, without a dot at the end.
struct Text {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Query<'_> {
    /// The name that is asked for, in lower case and without a dot at the end. Characters that no name of a cluster
    /// has are zeros.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// Reads a message.
pub(crate) fn read(packet: &[u8]) -> Incoming<'_> {
    let (Some(id), Some(flags)) = (word(packet, 0), word(packet, 2)) else {
        return Incoming::Junk;
    };
    if packet.len() < HEADER_BYTES || flags & IS_RESPONSE != 0 {
        return Incoming::Junk;
    }
    let opening = Opening { id, flags };
    if flags & OPERATION != 0 {
        return Incoming::Refusable(opening, code::NOT_IMPLEMENTED);
    }
    match read_question(packet, opening) {
        Some(query) => Incoming::Query(query),
        None => Incoming::Refusable(opening, code::FORMAT_ERROR),
    }
}

fn read_question(packet: &[u8], opening: Opening) -> Option<Query<'_>> {
    if word(packet, 4)? != 1 {
        return None;
    }
    let (name, at) = Text::read(packet, HEADER_BYTES)?;
    let (kind, class) = (word(packet, at)?, word(packet, at + 2)?);
    let end = at + 4;
    let counts = [word(packet, 6)?, word(packet, 8)?, word(packet, 10)?];
    let records = counts.into_iter().map(usize::from).sum();
    Some(Query {
        opening,
        question: &packet[HEADER_BYTES..end],
        name,
        kind,
        class,
        edns: read_edns(packet, end, records)?,
    })
}

/// Looks for the OPT record behind the question; `None` if what stands there is broken.
fn read_edns(packet: &[u8], mut at: usize, records: usize) -> Option<Option<Edns>> {
    let mut found = None;
    for _ in 0..records {
        let is_root = packet.get(at) == Some(&0);
        at = skip_name(packet, at)?;
        let (kind, class) = (word(packet, at)?, word(packet, at + 2)?);
        let ttl = u32::from(word(packet, at + 4)?) << 16 | u32::from(word(packet, at + 6)?);
        let length = usize::from(word(packet, at + 8)?);
        at += 10 + length;
        if at > packet.len() {
            return None;
        }
        if kind == kind::OPT {
            // There is at most one, and it belongs to no name (RFC 6891, section 6.1.1).
            if found.is_some() || !is_root {
                return None;
            }
            let [_, version, ..] = ttl.to_be_bytes();
            found = Some(Edns {
                payload_bytes: class,
                version,
                is_dnssec_ok: ttl & DNSSEC_OK != 0,
            });
        }
    }
    Some(found)
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=LABEL_BYTES_MAX => at += 1 + usize::from(length),
            // A pointer ends the name.
            0xc0.. => return (at + 2 <= packet.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

impl Text {
    /// Reads a name and says where it ends. There is nothing yet that a name of the question could point to.
    fn read(packet: &[u8], start: usize) -> Option<(Self, usize)> {
        let mut text = Self {
            bytes: [0; NAME_BYTES_MAX],
            length: 0,
        };
        let mut at = start;
        loop {
            let length = *packet.get(at)?;
            at += 1;
            if length == 0 {
                return Some((text, at));
            }
            let label = packet.get(at..at + usize::from(length))?;
            at += label.len();
            // The empty label at the end counts.
            if length > LABEL_BYTES_MAX || at + 1 - start > NAME_BYTES_MAX {
                return None;
            }
            if text.length > 0 {
                text.push(b'.');
            }
            for byte in label {
                // A dot inside a label must not look like one between two.
                text.push(match byte {
                    b'.' | 0x80.. => 0,
                    byte => byte.to_ascii_lowercase(),
                });
            }
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("nothing but ASCII is put in")
    }
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests;
