//! Whose a bearer token is: a service account's, or that of a machine that is about to join.

use super::claims::{Binding, Claims, Named, user_name};
use super::{bootstrap_token, legacy};
use crate::admission::kind;
use crate::clock;
use crate::server::Server;
use crate::status::Outcome;
use crate::user::User;
use http::{HeaderMap, header};
use std::sync::Arc;
use store::KeyValue;

/// How far clocks may be apart, and how long the end of an object may be known before its tokens end; upstream's figure.
const LEEWAY_S: i64 = 60;

/// In `extra` of a user: what the credential was that named it.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why a token is not taken. It is told to reviewers of tokens only: to its bearer, a token is good or it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[invalid bearer token, {0}]")]
pub(crate) struct Refused(String);

impl Refused {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) user: User,
    /// Those of the audiences asked for that the token is meant for.
    pub(crate) audiences: Vec<String>,
}

/// The token in the headers of a request.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Finds out whose a token is; it must be meant for one of the audiences (none: for this server).
pub(crate) async fn authenticate(
    server: &Server,
    token: &str,
    audiences: &[String],
) -> Outcome<Result<Bearer, Refused>> {
    let own = &server.issuer.audiences;
    let audiences = if audiences.is_empty() { own } else { audiences };
    if let Some((id, secret)) = bootstrap_token::parts(token) {
        // Such a token says nothing of audiences, so it is for this server alone.
        let meant: Vec<String> = audiences
            .iter()
            .filter(|audience| own.contains(audience))
            .cloned()
            .collect();
        if meant.is_empty() {
            return Ok(Err(Refused::new("the token is meant for this server only")));
        }
        let user = bootstrap_token::user(server, id, secret).await?;
        return Ok(user.map(|user| Bearer { user, audiences: meant }));
    }
    let claims = match server.issuer.claims(token) {
        Ok(claims) => claims,
        Err(refused) => return Ok(Err(refused)),
    };
    if claims.iss == legacy::ISSUER {
        return legacy::authenticate(server, token, &claims, own, audiences).await;
    }
    let now = clock::now_s();
    let checked = check(&claims, &server.issuer.name, audiences, now);
    let (binding, meant) = match checked {
        Ok(checked) => checked,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Err(refused) = check_objects(server, binding, now).await? {
        return Ok(Err(refused));
    }
    Ok(Ok(Bearer {
        user: user(binding, &claims.jti),
        audiences: meant,
    }))
}

/// What can be said of a token by itself: whom it is for, and which of the audiences.
fn check<'a>(
    claims: &'a Claims,
    issuer: &str,
    audiences: &[String],
    now: i64,
) -> Result<(&'a Binding, Vec<String>), Refused> {
    if claims.iss != issuer {
        return Err(Refused::new("the token is of another issuer"));
    }
    let Some(binding) = &claims.kubernetes else {
        return Err(Refused::new("the token has no claims of a service account"));
    };
    if claims.exp.is_none_or(|end| end + LEEWAY_S < now) {
        return Err(Refused::new("service account token has expired"));
    }
    if claims.nbf.is_some_and(|start| start - LEEWAY_S > now) {
        return Err(Refused::new("service account token is not valid yet"));
    }
    if claims.sub != user_name(&binding.namespace, &binding.serviceaccount.name) {
        return Err(Refused::new("the subject of the token is not its service account"));
    }
    let meant: Vec<String> = audiences
        .iter()
        .filter(|audience| claims.aud.contains(audience))
        .cloned()
        .collect();
    if meant.is_empty() {
        let (has, wants) = (&claims.aud, audiences);
        return Err(Refused::new(format!(
            "token audiences {has:?} is invalid for the target audiences {wants:?}"
        )));
    }
    Ok((binding, meant))
}

/// The objects that a token is bound to must exist, and be the same as when it was made.
async fn check_objects(server: &Server, binding: &Binding, now: i64) -> Outcome<Result<(), Refused>> {
    let namespace = &binding.namespace;
    let account = &binding.serviceaccount;
    // A token of a pod only tells its node; one that is bound to a node itself dies with it.
    let node = binding.node.as_ref().filter(|_| binding.pod.is_none());
    let bound = [
        (Some(account), namespace.as_str(), kind("", "serviceaccounts")),
        (binding.secret.as_ref(), namespace, kind("", "secrets")),
        (binding.pod.as_ref(), namespace, kind("", "pods")),
        (node, "", kind("", "nodes")),
    ];
    for (named, namespace, kind) in bound {
        let Some(named) = named else { continue };
        let found = server.read(kind, namespace, &named.name).await?;
        if !is_there(found.as_ref(), named, now) {
            let (singular, name) = (kind.singular, &named.name);
            return Ok(Err(Refused::new(format!(
                "service account token has been invalidated: {singular} {namespace}/{name} is gone or another one"
            ))));
        }
    }
    Ok(Ok(()))
}

/// Whether an object is the one named, and not long deleted.
pub(super) fn is_there(found: Option<&Arc<KeyValue>>, named: &Named, now: i64) -> bool {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        uid: String,
        deletion_timestamp: Option<String>,
    }
    let object = found.and_then(|kv| serde_json::from_slice::<Object>(&kv.value).ok());
    object.is_some_and(|object| {
        let deleted = object.metadata.deletion_timestamp.as_deref().and_then(clock::parse_s);
        object.metadata.uid == named.uid && deleted.is_none_or(|deleted| deleted >= now - LEEWAY_S)
    })
}

/// The account as a user, with what the token tells of its place.
fn user(binding: &Binding, token_id: &str) -> User {
    let mut user = account_user(&binding.namespace, &binding.serviceaccount);
    let extra = [
        (
            CREDENTIAL_ID,
            Some(format!("JTI={token_id}")).filter(|_| !token_id.is_empty()),
        ),
        (
            "authentication.kubernetes.io/pod-name",
            binding.pod.as_ref().map(|pod| pod.name.clone()),
        ),
        (
            "authentication.kubernetes.io/pod-uid",
            binding.pod.as_ref().map(|pod| pod.uid.clone()),
        ),
        (
            "authentication.kubernetes.io/node-name",
            binding.node.as_ref().map(|node| node.name.clone()),
        ),
        (
            "authentication.kubernetes.io/node-uid",
            binding.node.as_ref().map(|node| node.uid.clone()),
        ),
    ];
    let extra = extra
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), vec![value?])));
    user.extra.extend(extra);
    user
}

/// A service account as a user.
pub(super) fn account_user(namespace: &str, account: &Named) -> User {
    User {
        uid: account.uid.clone(),
        ..User::service_account(namespace, &account.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::claims::LegacyBinding;

    fn claims() -> Claims {
        Claims {
            aud: vec!["us".into(), "them".into()],
            exp: Some(2000),
            iat: Some(1000),
            iss: "issuer".into(),
            jti: "1".into(),
            kubernetes: Some(Binding {
                namespace: "n".into(),
                serviceaccount: Named {
                    name: "s".into(),
                    uid: "u".into(),
                },
                ..Binding::default()
            }),
            nbf: Some(1000),
            sub: "system:serviceaccount:n:s".into(),
            legacy: LegacyBinding::default(),
        }
    }

    #[track_caller]
    fn refused(claims: &Claims, now: i64, why: &str) {
        let refused = check(claims, "issuer", &["us".into()], now).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }

    #[test]
    fn a_token_is_good_for_its_time_and_audience() {
        let good = claims();
        let (_, meant) = check(&good, "issuer", &["us".into(), "others".into()], 1500).unwrap();
        assert_eq!(meant, ["us"]);
        refused(&good, 2000 + LEEWAY_S + 1, "expired");
        refused(&good, 1000 - LEEWAY_S - 1, "not valid yet");
        let mut other = claims();
        other.aud = vec!["them".into()];
        refused(&other, 1500, "target audiences [\"us\"]");
    }

    #[test]
    fn a_token_that_never_ends_or_names_another_subject_is_refused() {
        let mut endless = claims();
        endless.exp = None;
        refused(&endless, 1500, "expired");
        let mut stranger = claims();
        stranger.sub = "system:serviceaccount:n:admin".into();
        refused(&stranger, 1500, "subject");
        let mut foreign = claims();
        foreign.iss = "x".into();
        refused(&foreign, 1500, "issuer");
    }

    #[test]
    fn only_the_bearer_scheme_carries_tokens() {
        let check = |value: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(token(&headers), expected, "{value}");
        };
        check("Bearer a.b.c", Some("a.b.c"));
        check("bearer  x ", Some("x"));
        check("Basic x", None);
        check("Bearer ", None);
    }
}
