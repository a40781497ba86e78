//! URLs, IP addresses and networks, and semantic versions.

use crate::evaluate::{EvalError, failed, no_overload};
use crate::strings::Semver;
use crate::value::Value;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// An absolute URL, or an absolute path.
    fn parse(text: &str) -> Option<Self> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (text, _fragment) = text.split_once('#').unwrap_or((text, ""));
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        if before.starts_with('/') {
            let (scheme, host) = (String::new(), String::new());
            return Some(Self {
                scheme,
                host,
                path: before.to_owned(),
                query: query.to_owned(),
            });
        }
        let (scheme, rest) = before.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        is_scheme.then(|| Self {
            scheme: scheme.to_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Host name and port.
    fn parts(&self) -> (&str, &str) {
        if let Some((name, rest)) = self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return (name, rest.strip_prefix(':').unwrap_or(""));
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }

    fn query(&self) -> Value {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            found
                .entry(unescaped(name))
                .or_default()
                .push(Value::text(unescaped(value)));
        }
        Value::object(found.into_iter().map(|(name, values)| (name, Value::list(values))))
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let code = std::str::from_utf8(&pair)
                    .ok()
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok());
                bytes.push(code.unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An address in its plain form: no zone, and no IPv4 written as IPv6.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .filter(|ip| !matches!(ip, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()))
}

/// Calls a function of this library; `None` if there is none.
pub(crate) fn call(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    Ok(Some(match (function, values) {
        ("url", [Value::String(text)]) => {
            let url = Url::parse(text)
                .ok_or_else(|| failed(format!("URL parse error during conversion from string: {text:?}")))?;
            Value::Url(Arc::new(url))
        }
        ("isURL", [Value::String(text)]) => Value::Bool(Url::parse(text).is_some()),
        ("getScheme", [Value::Url(url)]) => Value::text(url.scheme.as_str()),
        ("getHost", [Value::Url(url)]) => Value::text(url.host.as_str()),
        ("getHostname", [Value::Url(url)]) => Value::text(url.parts().0),
        ("getPort", [Value::Url(url)]) => Value::text(url.parts().1),
        ("getEscapedPath", [Value::Url(url)]) => Value::text(url.path.as_str()),
        ("getQuery", [Value::Url(url)]) => url.query(),
        ("ip", [Value::String(text)]) => Value::Ip(
            ip(text).ok_or_else(|| failed(format!("IP Address {text:?} parse error during conversion from string")))?,
        ),
        ("isIP", [Value::String(text)]) => Value::Bool(ip(text).is_some()),
        ("ip.isCanonical", [Value::String(text)]) => Value::Bool(ip(text).is_some_and(|ip| ip.to_string() == **text)),
        ("family", [Value::Ip(ip)]) => Value::Int(if ip.is_ipv4() { 4 } else { 6 }),
        ("isUnspecified", [Value::Ip(ip)]) => Value::Bool(ip.is_unspecified()),
        ("isLoopback", [Value::Ip(ip)]) => Value::Bool(ip.is_loopback()),
        ("isLinkLocalMulticast", [Value::Ip(ip)]) => Value::Bool(match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        }),
        ("isLinkLocalUnicast", [Value::Ip(ip)]) => Value::Bool(is_link_local(ip)),
        ("isGlobalUnicast", [Value::Ip(ip)]) => Value::Bool(
            !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !is_link_local(ip) && !is_broadcast(ip),
        ),
        ("cidr", [Value::String(text)]) => Value::Cidr(text.parse().map_err(|_| {
            failed(format!(
                "network address parse error during conversion from string: {text:?}"
            ))
        })?),
        ("isCIDR", [Value::String(text)]) => Value::Bool(text.parse::<IpNet>().is_ok()),
        ("containsIP", [Value::Cidr(net), Value::Ip(ip)]) => Value::Bool(net.contains(ip)),
        ("containsIP", [Value::Cidr(net), Value::String(text)]) => {
            Value::Bool(net.contains(&ip(text).ok_or_else(no_overload)?))
        }
        ("containsCIDR", [Value::Cidr(net), Value::Cidr(other)]) => Value::Bool(net.contains(other)),
        ("containsCIDR", [Value::Cidr(net), Value::String(text)]) => {
            Value::Bool(net.contains(&text.parse::<IpNet>().map_err(|_| no_overload())?))
        }
        ("ip", [Value::Cidr(net)]) => Value::Ip(net.addr()),
        ("masked", [Value::Cidr(net)]) => Value::Cidr(net.trunc()),
        ("prefixLength", [Value::Cidr(net)]) => Value::Int(i64::from(net.prefix_len())),
        ("semver", [Value::String(text)]) => {
            let version =
                Semver::parse(text).ok_or_else(|| failed(format!("Invalid character(s) found in version {text:?}")))?;
            Value::Semver(Arc::new(version))
        }
        ("isSemver", [Value::String(text)]) => Value::Bool(Semver::parse(text).is_some()),
        ("major" | "minor" | "patch", [Value::Semver(version)]) => Value::Int(version.number(function)),
        ("isLessThan", [Value::Semver(a), Value::Semver(b)]) => Value::Bool(a.order(b).is_lt()),
        ("isGreaterThan", [Value::Semver(a), Value::Semver(b)]) => Value::Bool(a.order(b).is_gt()),
        ("compareTo", [Value::Semver(a), Value::Semver(b)]) => Value::Int(a.order(b) as i64),
        _ => return Ok(None),
    }))
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_broadcast(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}
