//! The wall clock in the form that objects carry.

use jiff::Timestamp;

/// Now, as seconds since 1970.
pub(crate) fn now_s() -> i64 {
    ambient::now().as_second()
}

/// Now, as objects show it: RFC 3339 in seconds.
pub(crate) fn now_text() -> String {
    text(now_s())
}

/// Now, in microseconds, as the audit log shows it.
pub(crate) fn micro_text() -> String {
    ambient::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A time as objects show it.
pub(crate) fn text(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since 1970 of a time that an object shows.
pub(crate) fn parse_s(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        assert_eq!(text(1_795_000_000), "2026-11-18T11:06:40Z");
        assert_eq!(parse_s("2026-11-18T11:06:40Z"), Some(1_795_000_000));
        assert_eq!(parse_s("yesterday"), None);
    }
}
