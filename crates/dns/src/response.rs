//! Writes a response, record by record, into the space that the client has for it.

use crate::query::{CLASS_IN, HEADER_BYTES, Opening, Query, code, kind};
use crate::records::Data;
use std::net::IpAddr;

/// The largest UDP answer, so that no network on the way cuts it in pieces (DNS flag day 2020).
const UDP_PAYLOAD_BYTES_MAX: u16 = 1232;

/// What every client takes over UDP.
const UDP_PAYLOAD_BYTES_MIN: u16 = 512;

/// What fits over TCP.
const TCP_PAYLOAD_BYTES: usize = 65_535;

/// An OPT record without options.
const OPT_BYTES: usize = 11;

/// Priority and weight of every SRV record: none is better than another.
const PRIORITY: u16 = 0;
const WEIGHT: u16 = 100;

/// Flags that an answer has from its question: the operation, "recursion desired" and "checking disabled".
const REPEATED_FLAGS: u16 = 0x7910;
const IS_RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The largest answer that the asker takes.
pub(crate) fn limit(query: &Query<'_>, transport: Transport) -> usize {
    if transport == Transport::Tcp {
        return TCP_PAYLOAD_BYTES;
    }
    let offered = query.edns.map_or(UDP_PAYLOAD_BYTES_MIN, |edns| edns.payload_bytes);
    offered.clamp(UDP_PAYLOAD_BYTES_MIN, UDP_PAYLOAD_BYTES_MAX).into()
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// The name of the question, as it was written there.
    Question,
    /// Another name.
    Name(&'a str),
}

/// The authority's own record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soa<'a> {
    pub(crate) server: &'a str,
    pub(crate) contact: &'a str,
    pub(crate) serial: u32,
    pub(crate) refresh_s: u32,
    pub(crate) retry_s: u32,
    pub(crate) expire_s: u32,
    pub(crate) negative_ttl_s: u32,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Data(&'a Data),
    Soa(Soa<'a>),
    Server(&'a str),
}

/// A name that DNS cannot carry, such as an external name with a label of 70 letters.
#[derive(Debug)]
struct Unspeakable;

/// A response under way.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    code: u16,
    is_authoritative: bool,
    is_cut: bool,
    edns: Option<bool>,
    /// Where names were written that records behind them may belong to.
    targets: Vec<usize>,
    /// How many of those were found again; the rest is looked at first.
    found: usize,
}

impl<'a> Response<'a> {
    /// Begins the response to a query.
    pub(crate) fn to(query: &Query<'_>, transport: Transport, bytes: &'a mut Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(query.question);
        let opt = if query.edns.is_some() { OPT_BYTES } else { 0 };
        Self {
            bytes,
            limit: limit(query, transport) - opt,
            counts: [0; 3],
            code: code::NO_ERROR,
            is_authoritative: false,
            is_cut: false,
            edns: query.edns.map(|edns| edns.is_dnssec_ok),
            targets: Vec::new(),
            found: 0,
        }
    }

    pub(crate) fn set_code(&mut self, code: u16) {
        self.code = code;
    }

    pub(crate) fn set_authoritative(&mut self) {
        self.is_authoritative = true;
    }

    /// Adds a record if there is room for it; what is missing in the first two sections is told to the client, which
    /// may ask again over TCP. A record that DNS cannot carry is left out.
    pub(crate) fn add(&mut self, section: Section, owner: Owner<'_>, ttl_s: u32, value: Value<'_>) {
        if self.is_cut {
            return;
        }
        let (start, targets) = (self.bytes.len(), self.targets.len());
        let written = self.write(owner, ttl_s, value);
        if written.is_ok() && self.bytes.len() <= self.limit {
            self.counts[section as usize] += 1;
            return;
        }
        self.bytes.truncate(start);
        self.targets.truncate(targets);
        self.is_cut = written.is_ok() && section != Section::Additional;
    }

    /// Ends the response; its bytes are complete then.
    pub(crate) fn finish(self, opening: Opening, is_recursive: bool) -> u16 {
        if let Some(is_dnssec_ok) = self.edns {
            self.bytes.extend_from_slice(&[0]);
            put(self.bytes, kind::OPT);
            put(self.bytes, UDP_PAYLOAD_BYTES_MAX);
            let [_, high] = (self.code >> 4).to_be_bytes();
            let flags = if is_dnssec_ok { 0x80 } else { 0 };
            self.bytes.extend_from_slice(&[high, 0, flags, 0, 0, 0]);
        }
        let mut flags = opening.flags & REPEATED_FLAGS | IS_RESPONSE | self.code & 0xf;
        for (is_set, flag) in [
            (self.is_authoritative, AUTHORITATIVE),
            (self.is_cut, TRUNCATED),
            (is_recursive, RECURSION_AVAILABLE),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let [answers, authorities, additionals] = self.counts;
        let additionals = additionals + u16::from(self.edns.is_some());
        let words = [opening.id, flags, 1, answers, authorities, additionals];
        for (place, word) in self.bytes.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        self.code
    }

    fn write(&mut self, owner: Owner<'_>, ttl_s: u32, value: Value<'_>) -> Result<(), Unspeakable> {
        match owner {
            Owner::Question => self.point_to(HEADER_BYTES),
            Owner::Name(name) => self.owner(name)?,
        }
        put(self.bytes, kind_of(value));
        put(self.bytes, CLASS_IN);
        self.bytes.extend_from_slice(&ttl_s.to_be_bytes());
        let length_at = self.bytes.len();
        put(self.bytes, 0);
        self.value(value)?;
        let length = self.bytes.len() - length_at - 2;
        let length = u16::try_from(length).expect("names and texts are short");
        self.bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Unspeakable> {
        match value {
            Value::Data(Data::Address(IpAddr::V4(address))) => self.bytes.extend_from_slice(&address.octets()),
            Value::Data(Data::Address(IpAddr::V6(address))) => self.bytes.extend_from_slice(&address.octets()),
            Value::Data(Data::Alias(target) | Data::Pointer(target)) => name(self.bytes, target)?,
            Value::Server(target) => name(self.bytes, target)?,
            Value::Data(Data::Port { port, target }) => {
                for word in [PRIORITY, WEIGHT, *port] {
                    put(self.bytes, word);
                }
                self.targets.push(self.bytes.len());
                name(self.bytes, target)?;
            }
            Value::Data(Data::Text(text)) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                self.bytes.extend(u8::try_from(text.len()));
                self.bytes.extend_from_slice(text);
            }
            Value::Soa(soa) => {
                name(self.bytes, soa.server)?;
                name(self.bytes, soa.contact)?;
                for number in [soa.serial, soa.refresh_s, soa.retry_s, soa.expire_s, soa.negative_ttl_s] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
        Ok(())
    }

    /// Writes an owner's name, or where it stands already: addresses belong to the targets of SRV records.
    fn owner(&mut self, text: &str) -> Result<(), Unspeakable> {
        let start = self.bytes.len();
        name(self.bytes, text)?;
        let (before, written) = self.bytes.split_at(start);
        let is_it = |at: &usize| before[*at..].starts_with(written);
        let order = (self.found..self.targets.len()).chain(0..self.found);
        let known = order.map(|i| (i, self.targets[i])).find(|(_, at)| is_it(at));
        if let Some((i, at)) = known
            && at <= POINTER_MAX
        {
            self.found = i;
            self.bytes.truncate(start);
            self.point_to(at);
        }
        Ok(())
    }

    fn point_to(&mut self, at: usize) {
        let at = u16::try_from(at).expect("it was compared with the largest pointer");
        put(self.bytes, 0xc000 | at);
    }
}

/// The last place that a pointer can name.
const POINTER_MAX: usize = 0x3fff;

/// The kind of a record.
pub(crate) fn kind_of(value: Value<'_>) -> u16 {
    match value {
        Value::Data(Data::Address(IpAddr::V4(_))) => kind::A,
        Value::Data(Data::Address(IpAddr::V6(_))) => kind::AAAA,
        Value::Data(Data::Alias(_)) => kind::CNAME,
        Value::Data(Data::Port { .. }) => kind::SRV,
        Value::Data(Data::Pointer(_)) => kind::PTR,
        Value::Data(Data::Text(_)) => kind::TXT,
        Value::Soa(_) => kind::SOA,
        Value::Server(_) => kind::NS,
    }
}

/// A response that says nothing but why there is none.
pub(crate) fn refusal(opening: Opening, code: u16, bytes: &mut Vec<u8>) {
    bytes.clear();
    for word in [
        opening.id,
        opening.flags & REPEATED_FLAGS | IS_RESPONSE | code,
        0,
        0,
        0,
        0,
    ] {
        put(bytes, word);
    }
}

fn put(bytes: &mut Vec<u8>, word: u16) {
    bytes.extend_from_slice(&word.to_be_bytes());
}

fn name(bytes: &mut Vec<u8>, text: &str) -> Result<(), Unspeakable> {
    if text.len() > 253 {
        return Err(Unspeakable);
    }
    for label in text.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length));
        bytes.push(length.ok_or(Unspeakable)?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Ok(())
}
