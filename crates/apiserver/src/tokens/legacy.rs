//! Tokens without end that stand in Secrets of type `kubernetes.io/service-account-token`.
//!
//! The server fills such a Secret when it is written, so that its author has the token with the answer. The token is
//! good as long as the Secret holds it and the account is the same.

use super::bearer::{Bearer, Refused, account_user, is_there};
use super::claims::{Claims, LegacyBinding, Named, user_name};
use crate::admission::kind;
use crate::clock;
use crate::create::text;
use crate::server::Server;
use crate::status::{Outcome, internal};
use crate::stored::Stored;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The issuer of all such tokens, on every cluster.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Fills in the token, the authority's certificate and the namespace, where a Secret of the type lacks them and its
/// account exists.
pub(crate) async fn fill(server: &Server, secret: &mut Value) -> Outcome<()> {
    if secret["type"] != TYPE {
        return Ok(());
    }
    let part = |value: &Value| text(value).map(str::to_owned);
    let metadata = &secret["metadata"];
    let annotations = &metadata["annotations"];
    let (Some(namespace), Some(name), Some(account)) = (
        part(&metadata["namespace"]),
        part(&metadata["name"]),
        part(&annotations[ACCOUNT_NAME]),
    ) else {
        return Ok(());
    };
    let given_uid = part(&annotations[ACCOUNT_UID]);
    let accounts = kind("", "serviceaccounts");
    let Some(found) = server.read(accounts, &namespace, &account).await? else {
        return Ok(());
    };
    let uid = part(&Stored::from(&found).metadata()["uid"]).unwrap_or_default();
    if given_uid.is_some_and(|given| given != uid) {
        return Ok(());
    }
    secret["metadata"]["annotations"][ACCOUNT_UID] = json!(uid);
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    let mut put = |key: &str, value: &str| {
        if text(&secret["data"][key]).is_none() {
            secret["data"][key] = json!(STANDARD.encode(value));
        }
    };
    put("namespace", &namespace);
    if let Some(authority) = &server.config.root_ca {
        put("ca.crt", authority);
    }
    put("token", &make(server, namespace, name, account, uid)?);
    Ok(())
}

fn make(server: &Server, namespace: String, secret: String, account: String, account_uid: String) -> Outcome<String> {
    let claims = Claims {
        aud: Vec::new(),
        exp: None,
        iat: None,
        iss: ISSUER.to_owned(),
        jti: String::new(),
        kubernetes: None,
        nbf: None,
        sub: user_name(&namespace, &account),
        legacy: LegacyBinding {
            namespace,
            secret,
            account,
            account_uid,
        },
    };
    let signed = server.issuer.keys.sign(&claims);
    signed.ok_or_else(|| internal("the token cannot be signed"))
}

/// Whose such a token is. It is meant for whoever asks this server, and for nobody else.
pub(super) async fn authenticate(
    server: &Server,
    token: &str,
    claims: &Claims,
    own: &[String],
    audiences: &[String],
) -> Outcome<Result<Bearer, Refused>> {
    let LegacyBinding {
        namespace,
        secret,
        account,
        account_uid,
    } = &claims.legacy;
    let meant: Vec<String> = audiences
        .iter()
        .filter(|audience| own.contains(audience))
        .cloned()
        .collect();
    if meant.is_empty() {
        return Ok(Err(Refused::new("the token is meant for this server only")));
    }
    let secrets = kind("", "secrets");
    let found = server.read(secrets, namespace, secret).await?;
    let object = found.map(|kv| Stored::from(&kv).object(secrets)).transpose()?;
    let held = object.filter(|object| object["metadata"]["deletionTimestamp"].is_null());
    let held = held.and_then(|object| STANDARD.decode(object["data"]["token"].as_str()?).ok());
    if held.as_deref() != Some(token.as_bytes()) {
        return Ok(Err(Refused::new("service account token has been invalidated")));
    }
    let named = Named {
        name: account.clone(),
        uid: account_uid.clone(),
    };
    let found = server.read(kind("", "serviceaccounts"), namespace, account).await?;
    if claims.sub != user_name(namespace, account) || !is_there(found.as_ref(), &named, clock::now_s()) {
        return Ok(Err(Refused::new("the service account is gone or another one")));
    }
    Ok(Ok(Bearer {
        user: account_user(namespace, &named),
        audiences: meant,
    }))
}
