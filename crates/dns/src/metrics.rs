//! What the server has done so far, in numbers.

use crate::query::code;
use crate::response::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Response codes with a name of their own.
const CODES: [(u16, &str); 7] = [
    (code::NO_ERROR, "NOERROR"),
    (code::FORMAT_ERROR, "FORMERR"),
    (code::SERVER_FAILURE, "SERVFAIL"),
    (code::NAME_ERROR, "NXDOMAIN"),
    (code::NOT_IMPLEMENTED, "NOTIMP"),
    (code::REFUSED, "REFUSED"),
    (code::BAD_VERSION, "BADVERS"),
];

/// A name, what it means, the name of a label, and its values with their counts.
type Table<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a AtomicU64)]);

/// Counts of one server; copies count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    udp: AtomicU64,
    tcp: AtomicU64,
    /// In the order of [`CODES`], and all others behind them.
    codes: [AtomicU64; CODES.len() + 1],
    junk: AtomicU64,
    forwarded: AtomicU64,
    dropped: AtomicU64,
    is_ready: AtomicBool,
}

impl Metrics {
    /// Everything was read from the API at least once, so names of the cluster are answered.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready.load(Ordering::Relaxed)
    }

    pub(crate) fn ready(&self) {
        self.0.is_ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self, transport: Transport) {
        match transport {
            Transport::Udp => &self.0.udp,
            Transport::Tcp => &self.0.tcp,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, code: u16) {
        let place = CODES.iter().position(|(known, _)| *known == code);
        self.0.codes[place.unwrap_or(CODES.len())].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn junk(&self) {
        self.0.junk.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forwarded(&self) {
        self.0.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// All numbers in Prometheus' text format.
    pub fn text(&self) -> String {
        let counts = &self.0;
        let names = CODES.iter().map(|(_, name)| *name).chain(["other"]);
        let codes: Vec<(&str, &AtomicU64)> = names.zip(&counts.codes).collect();
        let mut text = String::new();
        let tables: [Table<'_>; 5] = [
            (
                "requests",
                "Queries that came in.",
                "proto",
                &[("udp", &counts.udp), ("tcp", &counts.tcp)],
            ),
            ("responses", "Answers by response code.", "rcode", &codes),
            (
                "malformed",
                "Packets that are no queries; they get no answer.",
                "",
                &[("", &counts.junk)],
            ),
            (
                "forwarded",
                "Queries passed on to other name servers.",
                "",
                &[("", &counts.forwarded)],
            ),
            (
                "dropped",
                "Answers that the network did not take.",
                "",
                &[("", &counts.dropped)],
            ),
        ];
        for (name, help, label, rows) in tables {
            let name = format!("steadfast_dns_{name}_total");
            text += &format!("# HELP {name} {help}\n# TYPE {name} counter\n");
            for (value, count) in rows {
                let labels = match label {
                    "" => String::new(),
                    label => format!("{{{label}=\"{value}\"}}"),
                };
                text += &format!("{name}{labels} {}\n", count.load(Ordering::Relaxed));
            }
        }
        text
    }
}
