//! Questions to one DNS server, asked by `dig`.

use crate::kubectl::PATIENCE;
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The response code's name, such as `NXDOMAIN`.
    pub status: String,
    /// Flags such as `aa`.
    pub flags: Vec<String>,
    /// Records, each as `name ttl kind data`, sorted.
    pub answer: Vec<String>,
    /// The authority's records.
    pub authority: Vec<String>,
    /// Records that save a further question.
    pub additional: Vec<String>,
    /// Everything that dig printed.
    pub text: String,
}

impl Reply {
    /// The data of the answers alone, sorted.
    pub fn data(&self) -> Vec<String> {
        let data = |record: &String| record.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
        let mut data: Vec<String> = self.answer.iter().map(data).collect();
        data.sort();
        data
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }
}

/// Asks a server.
///
/// # Errors
/// When `dig` cannot be run or gets no answer.
pub fn ask(server: SocketAddr, question: &str) -> anyhow::Result<Reply> {
    let output = Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), "+tries=3", "+timeout=10"])
        .args(question.split_whitespace())
        .output()
        .context("is Debian's package bind9-dnsutils installed?")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "dig {question}: {text}");
    let after = |mark: &str, end: char| {
        let rest = text
            .split_once(mark)
            .with_context(|| format!("no {mark:?} in {text}"))?
            .1;
        anyhow::Ok(rest.split(end).next().unwrap_or_default().to_owned())
    };
    Ok(Reply {
        status: after("status: ", ',')?,
        flags: after(";; flags: ", ';')?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        answer: section(&text, "ANSWER"),
        authority: section(&text, "AUTHORITY"),
        additional: section(&text, "ADDITIONAL"),
        text,
    })
}

/// Asks again until the answers' data are as expected: names follow objects within moments, not at once.
///
/// # Errors
/// When they do not become so, with what they were.
pub fn until(server: SocketAddr, question: &str, expected: &[&str]) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = ask(server, question)?.data();
        if found == expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{question} gives {found:?} instead of {expected:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn section(text: &str, name: &str) -> Vec<String> {
    let mark = format!(";; {name} SECTION:\n");
    let lines = text.split_once(&mark).map_or("", |(_, rest)| rest).lines();
    let record = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The class says nothing: there is only one.
        let (owner, data) = (&words[..2.min(words.len())], &words[3.min(words.len())..]);
        [owner, data].concat().join(" ")
    };
    let mut records: Vec<String> = lines.take_while(|line| !line.is_empty()).map(record).collect();
    records.sort();
    records
}
