//! Continue tokens: where the next page of a list begins. What is in one is the server's own affair, but it comes back from
//! strangers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What upstream writes into its tokens, so that clients who look inside find what they know.
const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on, and at which state.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The revision of all pages; `None` is the latest.
    pub revision: Option<u64>,
    /// The key that the page begins with.
    pub start: String,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Place {
    /// The token that leads here.
    pub fn encode(&self) -> String {
        let rv = self
            .revision
            .and_then(|revision| i64::try_from(revision).ok())
            .unwrap_or(-1);
        let token = Token {
            v: VERSION.to_owned(),
            rv,
            start: self.start.clone(),
        };
        let text = serde_json::to_vec(&token).expect("strings and a number can be written as JSON");
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Where a token leads.
    ///
    /// # Errors
    /// The message for the client, when it is no token of ours.
    pub fn decode(token: &str) -> Result<Self, String> {
        let invalid = |why: String| format!("invalid continue token: continue key is not valid: {why}");
        let text = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|error| invalid(error.to_string()))?;
        let token: Token = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if token.v != VERSION {
            return Err(invalid(format!("unsupported version {:?}", token.v)));
        }
        // A key is not a path: nothing in it leads out of the collection.
        let is_key = |part: &str| !matches!(part, "" | "." | "..");
        if !token.start.is_empty() && !token.start.split('/').all(is_key) {
            return Err(invalid(token.start));
        }
        Ok(Self {
            revision: u64::try_from(token.rv).ok().filter(|revision| *revision > 0),
            start: token.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_token_breaks_the_server(token in "[A-Za-z0-9_=-]{0,60}", text in "\\PC{0,60}", rv: i64) {
            let says_why = |decoded: Result<Place, String>| decoded.err().is_none_or(|why| !why.is_empty());
            assert!(says_why(Place::decode(&token)));
            assert!(says_why(Place::decode(&URL_SAFE_NO_PAD.encode(&text))));
            let text = format!("n/{}x", text.replace('/', ""));
            let token = serde_json::json!({"v": VERSION, "rv": rv, "start": text});
            let place = Place::decode(&URL_SAFE_NO_PAD.encode(token.to_string())).unwrap();
            assert_eq!(place.start, text);
            assert_eq!(place.revision.is_some(), rv > 0);
        }
    }

    #[test]
    fn tokens_go_there_and_back() {
        for (revision, start) in [(Some(3148), "a/b"), (None, "")] {
            let start = start.to_owned();
            let place = Place { revision, start };
            assert_eq!(Place::decode(&place.encode()), Ok(place));
        }
        for start in ["../../", "a/../b", "/", "a/", "./a", "a//b"] {
            let start = start.to_owned();
            let token = Place { revision: None, start }.encode();
            assert!(Place::decode(&token).is_err(), "{token}");
        }
        assert!(Place::decode("!").is_err());
        assert!(Place::decode("aW52YWxpZA").is_err());
    }
}
