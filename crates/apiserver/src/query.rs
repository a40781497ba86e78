//! The parameters of a request, as text.

use crate::status::{Outcome, bad_request};
use axum::extract::Query as Extracted;
use http::Uri;
use std::time::Duration;

/// The parameters in the order given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Outcome<Self> {
        let Extracted(pairs) =
            Extracted::try_from_uri(uri).map_err(|error| bad_request(format!("invalid query: {error}")))?;
        Ok(Self(pairs))
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A switch: absent is `None`; anything but `false` and `0` is true, as upstream reads it.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str) -> Outcome<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text
            .parse()
            .map_err(|_| bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        Ok(Some(number))
    }

    /// A length of time as Go writes it, e.g. `1m30s`.
    pub(crate) fn duration(&self, name: &str) -> Outcome<Option<Duration>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed = duration(text);
        parsed.map(Some).ok_or_else(|| {
            bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {text:?}"
            ))
        })
    }
}

fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_gos() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("1.5s", Some(1_500));
        check("250ms", Some(250));
        check("0", Some(0));
        for wrong in ["", "30", "s", "1x", "-1s", "1e9999s", "99999999999999999999999999h"] {
            let expected = if wrong.is_empty() { Some(0) } else { None };
            check(wrong, expected);
        }
    }

    #[test]
    fn parameters_are_decoded_and_repeatable() {
        let uri = "/x?command=a&command=b%20c&watch=1&follow=false&limit=7&empty="
            .parse()
            .unwrap();
        let query = Query::of(&uri).unwrap();
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.flag("follow"), Some(false));
        assert_eq!(query.flag("absent"), None);
        assert_eq!(query.number("limit").unwrap(), Some(7));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.number("command").unwrap_err().code, 400);
    }
}
