//! The parameters of a request, as text.

use crate::status::{Outcome, bad_request};
use axum::extract::Query as Extracted;
use http::Uri;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
