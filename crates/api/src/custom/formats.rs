//! The formats of strings that upstream checks; every other one is a note to readers.

use regex::Regex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Formats that a regular expression says all of.
static PATTERNS: LazyLock<BTreeMap<&str, Regex>> = LazyLock::new(|| {
    let uuid = |version: &str, variant: &str| {
        format!("(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}$")
    };
    let table = [
        ("hostname", r"^([a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?$".to_owned()),
        ("mac", r"^([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2}[:-]){0,2}[0-9A-Fa-f]{2}$|^([0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4}$".to_owned()),
        ("email", r#"^("[^"]+"|[^\s@<>,;:"]+)@[^\s@<>,;:"]+$"#.to_owned()),
        ("uuid", uuid("[0-9a-f]", "[0-9a-f]")),
        ("uuid3", uuid("3", "[0-9a-f]")),
        ("uuid4", uuid("4", "[89ab]")),
        ("uuid5", uuid("5", "[89ab]")),
        ("bsonobjectid", "^[0-9a-fA-F]{24}$".to_owned()),
        ("isbn10", r"^(?:\d[- ]?){9}[\dxX]$".to_owned()),
        ("isbn13", r"^(?:\d[- ]?){12}\d$".to_owned()),
        ("isbn", r"^(?:\d[- ]?){9}[\dxX]$|^(?:\d[- ]?){12}\d$".to_owned()),
        ("creditcard", r"^(?:\d[- ]?){13,19}$".to_owned()),
        ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$".to_owned()),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$".to_owned()),
        ("rgbcolor", r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$".to_owned()),
        ("byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})?$".to_owned()),
        ("date", r"^\d{4}-\d{2}-\d{2}$".to_owned()),
        ("duration", r"^[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$|^0$|^(\d+)\s*(ns|us|µs|ms|s|m|h|d|w|nano|nanosecond|nanoseconds|micro|microsecond|microseconds|milli|millisecond|milliseconds|sec|second|seconds|min|minute|minutes|hr|hour|hours|day|days|week|weeks)$".to_owned()),
        ("uri", r"^([a-zA-Z][a-zA-Z0-9+.\-]*:[^\s]+|/[^\s]*)$".to_owned()),
    ];
    let compiled =
        |(name, text): (&'static str, String)| (name, Regex::new(&text).expect("the formats' patterns are valid"));
    table.into_iter().map(compiled).collect()
});

/// Whether the text has the format.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match format {
        "" => true,
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "datetime" | "date-time" => is_time(text),
        "date" => PATTERNS["date"].is_match(text) && text.parse::<jiff::civil::Date>().is_ok(),
        "k8s-short-name" => crate::validation::names::label_errors(text).is_empty(),
        "k8s-long-name" => crate::validation::names::subdomain_errors(text).is_empty(),
        _ => PATTERNS.get(format).is_none_or(|pattern| pattern.is_match(text)),
    }
}

fn is_time(text: &str) -> bool {
    let has_date_and_time = text.len() >= 20 && matches!(text.as_bytes()[10], b'T' | b't');
    has_date_and_time && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_has_their_form() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date", "2026-01-02", "2026-13-02"),
            ("duration", "1h30m", "tomorrow"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("byte", "YWJj", "*"),
            ("uri", "https://example.com/a", "not a uri"),
            ("hostname", "a.example.com", "-a"),
            ("email", "a@example.com", "a"),
        ] {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("anything-else", "x"));
    }
}
