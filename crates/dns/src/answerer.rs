//! Turns packets into packets: from the zone at once, from other servers later.

use crate::answer::{Rest, answer};
use crate::cluster::{NO_PANIC, Shared};
use crate::metrics::Metrics;
use crate::query::{CLASS_IN, Incoming, Opening, Query, code, kind, read};
use crate::response::{Response, Transport, limit, refusal};
use crate::upstream::{Forwarded, Forwarder};
use hickory_resolver::proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of UDP answers that we take ourselves.
const PAYLOAD_BYTES: u16 = 1232;

/// Aliases that lead outside may be remembered as long as other answers of ours.
const ALIAS_TTL_S: u32 = 5;

/// Answers queries.
pub(crate) struct Answerer {
    pub(crate) cluster: Shared,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: Metrics,
    /// Turns the order of addresses.
    pub(crate) turn: AtomicUsize,
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The answer is written.
    Now,
    /// Others must be asked.
    Later(Question),
    /// There is nothing to answer.
    Not,
}

/// A question about a name of others.
#[derive(Debug)]
pub(crate) struct Question {
    packet: Vec<u8>,
    limit: usize,
    opening: Opening,
    aliases: Vec<String>,
    name: String,
}

impl Answerer {
    /// Answers from the zone; `out` holds the answer then.
    pub(crate) fn answer(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> Answered {
        let query = match read(packet) {
            Incoming::Query(query) => query,
            Incoming::Refusable(opening, code) => {
                self.metrics.asked(transport);
                return self.refuse(opening, code, out);
            }
            Incoming::Junk => {
                self.metrics.junk();
                return Answered::Not;
            }
        };
        self.metrics.asked(transport);
        let mut response = Response::to(&query, transport, out);
        let rest = match refused(&query) {
            Some(code) => {
                response.set_code(code);
                Rest::Nothing
            }
            None => self.ask_zone(&query, &mut response),
        };
        if let Rest::Ask { aliases, name } = rest {
            let (limit, opening) = (limit(&query, transport), query.opening);
            let packet = packet.to_vec();
            return Answered::Later(Question {
                packet,
                limit,
                opening,
                aliases,
                name,
            });
        }
        self.metrics
            .answered(response.finish(query.opening, self.forwarder.is_there()));
        Answered::Now
    }

    fn ask_zone(&self, query: &Query<'_>, response: &mut Response<'_>) -> Rest {
        let cluster = self.cluster.read().expect(NO_PANIC);
        if !cluster.is_known() && cluster.zone().is_inside(query.name()) {
            // "It does not exist" would be believed.
            response.set_code(code::SERVER_FAILURE);
            return Rest::Nothing;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(cluster.zone(), query, turn, response)
    }

    fn refuse(&self, opening: Opening, code: u16, out: &mut Vec<u8>) -> Answered {
        refusal(opening, code, out);
        self.metrics.answered(code);
        Answered::Now
    }

    /// Refuses a question for which there is no room.
    pub(crate) fn fail(&self, question: &Question, out: &mut Vec<u8>) {
        self.refuse(question.opening, code::SERVER_FAILURE, out);
    }

    /// Asks others.
    pub(crate) async fn ask(&self, question: &Question) -> Vec<u8> {
        self.metrics.forwarded();
        let mut out = Vec::new();
        match self.forward(question).await {
            Ok(answer) => {
                self.metrics.answered(answer.metadata.response_code.into());
                match encode(&answer, question.limit) {
                    Ok(bytes) => out = bytes,
                    Err(error) => {
                        tracing::debug!(%error, "an answer of others cannot be written");
                        self.fail(question, &mut out);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a question cannot be passed on");
                self.refuse(question.opening, code::FORMAT_ERROR, &mut out);
            }
        }
        out
    }

    async fn forward(&self, question: &Question) -> Result<Message, hickory_resolver::proto::ProtoError> {
        let asked = Message::from_vec(&question.packet)?;
        let Some(query) = asked.queries.first().cloned() else {
            return Ok(Message::error_msg(
                asked.metadata.id,
                asked.metadata.op_code,
                ResponseCode::FormErr,
            ));
        };
        let name = match question.aliases.is_empty() {
            true => query.name().clone(),
            false => absolute(&question.name)?,
        };
        let Forwarded {
            mut code,
            answers,
            authority,
        } = self.forwarder.ask(name, query.query_type()).await;
        let aliases = aliases(query.name(), &question.aliases)?;
        // An alias of ours is an answer in itself, even if nobody knows what it leads to.
        if !aliases.is_empty() && code == ResponseCode::Refused {
            code = ResponseCode::NoError;
        }
        let mut message = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
        message.metadata.recursion_desired = asked.metadata.recursion_desired;
        message.metadata.checking_disabled = asked.metadata.checking_disabled;
        message.metadata.recursion_available = self.forwarder.is_there();
        message.metadata.authoritative = !aliases.is_empty();
        message.metadata.response_code = code;
        message.queries.push(query);
        message.answers = aliases.into_iter().chain(answers).collect();
        message.authorities = authority.into_iter().collect();
        if let Some(theirs) = &asked.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD_BYTES);
            edns.set_dnssec_ok(theirs.flags().dnssec_ok);
            message.edns = Some(edns);
        }
        Ok(message)
    }
}

/// The response code for a query that no zone is asked about.
fn refused(query: &Query<'_>) -> Option<u16> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Some(code::BAD_VERSION);
    }
    let is_transfer = matches!(query.kind, kind::AXFR | kind::IXFR);
    (query.class != CLASS_IN || is_transfer).then_some(code::REFUSED)
}

/// The answer in at most `limit` bytes: without its records, if they need more.
fn encode(message: &Message, limit: usize) -> Result<Vec<u8>, hickory_resolver::proto::ProtoError> {
    let bytes = message.to_vec()?;
    if bytes.len() <= limit {
        return Ok(bytes);
    }
    message.truncate().to_vec()
}

/// The chain of aliases from the name of the question.
fn aliases(from: &Name, targets: &[String]) -> Result<Vec<Record>, hickory_resolver::proto::ProtoError> {
    let mut owner = from.clone();
    let mut records = Vec::new();
    for target in targets {
        let target = absolute(target)?;
        let data = RData::CNAME(CNAME(target.clone()));
        records.push(Record::from_rdata(owner, ALIAS_TTL_S, data));
        owner = target;
    }
    Ok(records)
}

fn absolute(name: &str) -> Result<Name, hickory_resolver::proto::ProtoError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}
