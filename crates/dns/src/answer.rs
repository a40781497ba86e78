//! What the zone says to a question. Pure: a zone and a query in, records in a response out.

use crate::query::{Query, code, kind};
use crate::records::Data;
use crate::response::{Owner, Response, Section, Soa, Value, kind_of};
use crate::zone::{Found, Zone};
use std::borrow::Cow;

/// How long an answer may be remembered: pods come and go.
const ANSWER_TTL_S: u32 = 5;

/// How long it may be remembered that there is no answer: a pod that is waited for comes soon.
const NEGATIVE_TTL_S: u32 = 1;

/// Aliases that are followed for one answer.
const ALIASES_MAX: usize = 8;

/// How other servers would copy the zone; none does.
const REFRESH_S: u32 = 7200;
const RETRY_S: u32 = 1800;
const EXPIRE_S: u32 = 86400;

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The response is complete.
    Nothing,
    /// The question is about a name of others. If it is the target of aliases of ours, these come first.
    Ask { aliases: Vec<String>, name: String },
}

/// Answers from the zone. `turn` is another number each time: answers begin with another record each time, so that
/// clients that take the first address take different ones.
pub(crate) fn answer(zone: &Zone, query: &Query<'_>, turn: usize, response: &mut Response<'_>) -> Rest {
    let mut name = Cow::Borrowed(query.name());
    let mut aliases: Vec<String> = Vec::new();
    for _ in 0..ALIASES_MAX {
        let data = match zone.find(&name) {
            Found::Outside => {
                let name = name.into_owned();
                return Rest::Ask { aliases, name };
            }
            Found::Missing => {
                response.set_code(code::NAME_ERROR);
                deny(zone, response);
                return Rest::Nothing;
            }
            Found::Here(data) => data,
        };
        response.set_authoritative();
        let owner = aliases.last().map_or(Owner::Question, |alias| Owner::Name(alias));
        if let ([Data::Alias(target)], false) = (&*data, matches!(query.kind, kind::CNAME | kind::ANY)) {
            response.add(Section::Answer, owner, ANSWER_TTL_S, Value::Data(&data[0]));
            aliases.push(target.clone());
            name = Cow::Owned(target.clone());
            continue;
        }
        if !add_all(zone, &name, &data, query.kind, owner, turn, response) {
            deny(zone, response);
        }
        return Rest::Nothing;
    }
    response.set_code(code::SERVER_FAILURE);
    Rest::Nothing
}

/// Adds what there is of a kind at a name; `false` if there is nothing.
fn add_all(
    zone: &Zone,
    name: &str,
    data: &[Data],
    wanted: u16,
    owner: Owner<'_>,
    turn: usize,
    response: &mut Response<'_>,
) -> bool {
    let is_wanted = |kind: u16| wanted == kind || wanted == kind::ANY;
    let fitting = || data.iter().filter(|data| is_wanted(kind_of(Value::Data(data))));
    let count = fitting().count();
    let first = turn.checked_rem(count).unwrap_or_default();
    for data in fitting().cycle().skip(first).take(count) {
        response.add(Section::Answer, owner, ANSWER_TTL_S, Value::Data(data));
    }
    let mut is_any = count > 0;
    if name == zone.domain() {
        for value in [Value::Soa(soa(zone)), Value::Server(zone.server())] {
            if is_wanted(kind_of(value)) {
                response.add(Section::Answer, owner, ANSWER_TTL_S, value);
                is_any = true;
            }
        }
    }
    if wanted == kind::SRV {
        add_targets(zone, fitting().cycle().skip(first).take(count), response);
    }
    is_any
}

/// The addresses of what SRV records lead to, which saves the client a question each.
fn add_targets<'a>(zone: &Zone, ports: impl Iterator<Item = &'a Data>, response: &mut Response<'_>) {
    let mut last: Option<&str> = None;
    for data in ports {
        let Data::Port { target, .. } = data else { continue };
        if last.replace(target) == Some(target) {
            continue;
        }
        let Found::Here(found) = zone.find(target) else {
            continue;
        };
        for address in found.iter().filter(|data| matches!(data, Data::Address(_))) {
            let (owner, value) = (Owner::Name(target), Value::Data(address));
            response.add(Section::Additional, owner, ANSWER_TTL_S, value);
        }
    }
}

/// Says who says that there is nothing, and how long that may be believed (RFC 2308).
fn deny(zone: &Zone, response: &mut Response<'_>) {
    response.set_authoritative();
    let owner = Owner::Name(zone.domain());
    response.add(Section::Authority, owner, NEGATIVE_TTL_S, Value::Soa(soa(zone)));
}

fn soa(zone: &Zone) -> Soa<'_> {
    Soa {
        server: zone.server(),
        contact: zone.contact(),
        serial: zone.serial(),
        refresh_s: REFRESH_S,
        retry_s: RETRY_S,
        expire_s: EXPIRE_S,
        negative_ttl_s: NEGATIVE_TTL_S,
    }
}
