//! Answers one query.

use crate::cluster::{NO_PANIC, Shared};
use crate::records::{self, Data};
use crate::upstream::Forwarder;
use crate::zone::{Found, Zone};
use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long an answer may be remembered: pods come and go.
const ANSWER_TTL_S: u32 = 5;

/// How long it may be remembered that there is no answer: a pod that is waited for comes soon.
const NEGATIVE_TTL_S: u32 = 1;

/// Aliases that are followed for one answer.
const ALIASES_MAX: usize = 8;

/// The largest UDP answer, so that no network on the way cuts it in pieces (DNS flag day 2020).
const UDP_PAYLOAD_BYTES_MAX: u16 = 1232;

/// Priority and weight of every SRV record: none is better than another.
const PRIORITY: u16 = 0;
const WEIGHT: u16 = 100;

/// The handler that hickory's server calls.
pub(crate) struct Handler {
    pub(crate) cluster: Shared,
    pub(crate) forwarder: Forwarder,
    /// Turns the order of addresses, so that clients that take the first one take different ones.
    pub(crate) turn: AtomicUsize,
}

/// What goes back, apart from what every response has.
#[derive(Debug, Default)]
struct Reply {
    code: ResponseCode,
    is_ours: bool,
    answers: Vec<Record>,
    authority: Option<Record>,
    additional: Vec<Record>,
}

impl Reply {
    fn failed(code: ResponseCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// What the zone alone says to a question.
enum Step {
    Done(Reply),
    /// The rest is known outside.
    Ask(Reply, String),
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let edns = request.edns.as_ref().map(answer_edns);
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = reply.is_ours;
        metadata.recursion_available = self.forwarder.is_there();
        metadata.response_code = reply.code;
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let response = builder.build(
            metadata,
            &reply.answers,
            [],
            reply.authority.as_ref(),
            &reply.additional,
        );
        match to.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "dns response is not sent");
                metadata.response_code = ResponseCode::ServFail;
                let counts = hickory_server::proto::op::HeaderCounts::default();
                hickory_server::proto::op::Header { metadata, counts }.into()
            }
        }
    }
}

fn answer_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(512, UDP_PAYLOAD_BYTES_MAX));
    edns
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.message_type != MessageType::Query || request.metadata.op_code != OpCode::Query {
            return Reply::failed(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::failed(ResponseCode::BADVERS);
        }
        let Ok(asked) = request.request_info() else {
            return Reply::failed(ResponseCode::FormErr);
        };
        let kind = asked.query.query_type();
        if asked.query.query_class() != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Reply::failed(ResponseCode::Refused);
        }
        let original = asked.query.original().name();
        let name = plain(original);
        match self.ask_zone(&name, original, kind) {
            Step::Done(reply) => reply,
            Step::Ask(reply, name) => self.ask_others(reply, &name, kind).await,
        }
    }

    fn ask_zone(&self, name: &str, original: &Name, kind: RecordType) -> Step {
        let cluster = self.cluster.read().expect(NO_PANIC);
        if !cluster.is_known() && cluster.zone().is_inside(name) {
            // "It does not exist" would be believed.
            return Step::Done(Reply::failed(ResponseCode::ServFail));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(cluster.zone(), name, original, kind, turn)
    }

    async fn ask_others(&self, mut reply: Reply, name: &str, kind: RecordType) -> Reply {
        let Ok(name) = absolute(name) else {
            return Reply::failed(ResponseCode::FormErr);
        };
        let forwarded = self.forwarder.ask(name, kind).await;
        // An alias of ours is an answer in itself, even if nobody knows what it leads to.
        let is_alias = !reply.answers.is_empty();
        if !(is_alias && forwarded.code == ResponseCode::Refused) {
            reply.code = forwarded.code;
        }
        reply.answers.extend(forwarded.answers);
        reply.authority = forwarded.authority;
        reply
    }
}

/// A name as the zone has it.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    text.truncate(text.trim_end_matches('.').len());
    text
}

/// A name as hickory has it.
fn absolute(name: &str) -> Result<Name, hickory_server::proto::ProtoError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

/// Answers from the zone. `original` is the name as it was written in the question.
fn answer(zone: &Zone, name: &str, original: &Name, kind: RecordType, turn: usize) -> Step {
    let mut reply = Reply {
        is_ours: true,
        ..Reply::default()
    };
    let (mut name, mut owner) = (name.to_owned(), original.clone());
    for _ in 0..ALIASES_MAX {
        let data = match zone.find(&name) {
            Found::Outside => {
                reply.is_ours = !reply.answers.is_empty();
                return Step::Ask(reply, name);
            }
            Found::Missing => {
                reply.code = ResponseCode::NXDomain;
                reply.authority = soa(zone);
                return Step::Done(reply);
            }
            Found::Here(data) => data,
        };
        let mut found: Vec<Record> = data.iter().filter_map(|data| record(&owner, data)).collect();
        found.extend(apex(zone, &name, &owner));
        if let (Some(Data::Alias(target)), false) = (data.first(), matches!(kind, RecordType::CNAME | RecordType::ANY))
        {
            reply.answers.append(&mut found);
            let Ok(target_name) = absolute(target) else { break };
            (name, owner) = (target.clone(), target_name);
            continue;
        }
        found.retain(|record| kind == RecordType::ANY || record.record_type() == kind);
        if found.is_empty() {
            reply.authority = soa(zone);
        } else {
            let by = turn % found.len();
            found.rotate_left(by);
            reply.additional = targets(zone, &data, kind);
        }
        reply.answers.append(&mut found);
        return Step::Done(reply);
    }
    Step::Done(Reply::failed(ResponseCode::ServFail))
}

/// The addresses of what SRV records lead to, which saves the client a question each.
fn targets(zone: &Zone, data: &[Data], kind: RecordType) -> Vec<Record> {
    if kind != RecordType::SRV {
        return Vec::new();
    }
    let mut names: Vec<&String> = data
        .iter()
        .filter_map(|data| match data {
            Data::Port { target, .. } => Some(target),
            _ => None,
        })
        .collect();
    names.dedup();
    let mut records = Vec::new();
    for name in names {
        if let (Found::Here(data), Ok(owner)) = (zone.find(name), absolute(name)) {
            let addresses = data.iter().filter(|data| matches!(data, Data::Address(_)));
            records.extend(addresses.filter_map(|data| record(&owner, data)));
        }
    }
    records
}

/// SOA and NS, at the top of the domain only.
fn apex(zone: &Zone, name: &str, owner: &Name) -> Vec<Record> {
    if name != zone.domain() {
        return Vec::new();
    }
    let server = absolute(&records::server_name(zone.domain()));
    let server = server.map(|server| Record::from_rdata(owner.clone(), ANSWER_TTL_S, RData::NS(NS(server))));
    soa(zone).into_iter().chain(server).collect()
}

fn soa(zone: &Zone) -> Option<Record> {
    const SERIAL: u32 = 1;
    const REFRESH_S: i32 = 7200;
    const RETRY_S: i32 = 1800;
    const EXPIRE_S: i32 = 86400;
    let owner = absolute(zone.domain()).ok()?;
    let server = absolute(&records::server_name(zone.domain())).ok()?;
    let contact = absolute(&format!("hostmaster.{}", zone.domain())).ok()?;
    let soa = SOA::new(server, contact, SERIAL, REFRESH_S, RETRY_S, EXPIRE_S, NEGATIVE_TTL_S);
    Some(Record::from_rdata(owner, NEGATIVE_TTL_S, RData::SOA(soa)))
}

/// `None` for a name that DNS cannot carry, such as an external name with a label of 70 letters.
fn record(owner: &Name, data: &Data) -> Option<Record> {
    let data = match data {
        Data::Address(IpAddr::V4(address)) => RData::A((*address).into()),
        Data::Address(IpAddr::V6(address)) => RData::AAAA((*address).into()),
        Data::Alias(target) => RData::CNAME(CNAME(absolute(target).ok()?)),
        Data::Port { port, target } => RData::SRV(SRV::new(PRIORITY, WEIGHT, *port, absolute(target).ok()?)),
        Data::Pointer(target) => RData::PTR(PTR(absolute(target).ok()?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
    };
    Some(Record::from_rdata(owner.clone(), ANSWER_TTL_S, data))
}
