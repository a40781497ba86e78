//! Tokens of service accounts: what they say, who may have one, and whose they are.
//!
//! A token is a JSON web token signed by this server. It names its account, and often a pod or secret that it dies with;
//! so it is believed only while all of them still exist under the same uid.

pub(crate) mod bearer;
pub(crate) mod bootstrap_token;
pub(crate) mod claims;
pub(crate) mod keys;
pub(crate) mod legacy;
pub(crate) mod request;
pub(crate) mod review;

use crate::server::Server;
use crate::status::{Outcome, unauthorized};
use crate::user::User;
use claims::Claims;
use keys::{KeyError, TokenKeys};
use ring::digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How many verified tokens are remembered at least. A cluster has one for each pod that talks to the server.
const REMEMBERED_MIN: usize = 2048;

/// The server as an issuer of tokens.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    keys: TokenKeys,
    /// Who a token must be meant for to be taken here; the default audience of new ones.
    audiences: Vec<String>,
    verified: Mutex<Verified>,
}

/// Tokens whose signature was right, by their digest, in two generations: the older one is dropped as a whole.
#[derive(Debug, Default)]
struct Verified {
    young: HashMap<Vec<u8>, Arc<Claims>>,
    old: HashMap<Vec<u8>, Arc<Claims>>,
}

impl Issuer {
    pub(crate) fn new(name: String, keys: TokenKeys) -> Self {
        Self {
            audiences: vec![name.clone()],
            name,
            keys,
            verified: Mutex::default(),
        }
    }

    /// What a token says, if one of our keys has signed it; only the signature is checked.
    fn claims(&self, token: &str) -> Result<Arc<Claims>, bearer::Refused> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
        if let Some(claims) = self.remembered(&digest) {
            return Ok(claims);
        }
        let payload = self
            .keys
            .verify(token)
            .ok_or_else(|| bearer::Refused::new("the signature of the token is not valid"))?;
        let claims = serde_json::from_slice(&payload)
            .map_err(|_| bearer::Refused::new("the token has no claims of a service account"))?;
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock().expect("nothing panics while it holds the tokens");
        if verified.young.len() >= REMEMBERED_MIN {
            verified.old = std::mem::take(&mut verified.young);
        }
        verified.young.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    fn remembered(&self, digest: &[u8]) -> Option<Arc<Claims>> {
        let verified = self.verified.lock().expect("nothing panics while it holds the tokens");
        verified.young.get(digest).or_else(|| verified.old.get(digest)).cloned()
    }

    /// The document that tells other services how to check tokens of this issuer.
    pub(crate) fn discovery(&self, jwks_uri: &str) -> serde_json::Value {
        serde_json::json!({
            "issuer": self.name, "jwks_uri": jwks_uri, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self.keys.algorithms(),
        })
    }

    /// The public keys, as a JSON web key set.
    pub(crate) fn key_set(&self) -> serde_json::Value {
        self.keys.key_set()
    }
}

/// The issuer that a server's configuration describes.
pub(crate) fn issuer(config: &crate::Config) -> Result<Issuer, KeyError> {
    let keys = match &config.token_keys {
        Some(keys) => keys.clone(),
        None => TokenKeys::generate()?,
    };
    Ok(Issuer::new(config.token_issuer.clone(), keys))
}

/// The user that the token in a request's headers names; 401 if there is one and it is not good.
pub(crate) async fn bearer_of(server: &Server, headers: &http::HeaderMap) -> Outcome<Option<User>> {
    let Some(token) = bearer::token(headers) else {
        return Ok(None);
    };
    match bearer::authenticate(server, token, &[]).await? {
        Ok(bearer) => Ok(Some(bearer.user)),
        Err(refused) => {
            tracing::debug!("a request was refused: {refused}");
            Err(unauthorized())
        }
    }
}

/// Where the public keys are to be had: at the address that is made known to pods, or by the issuer's name if there is
/// none that leads here from elsewhere.
pub(crate) fn jwks_uri(server: &Server) -> String {
    let (address, issuer) = (server.config.advertise, &server.issuer.name);
    let is_local = address.ip().is_loopback() || address.ip().is_unspecified();
    if is_local && issuer.starts_with("https://") {
        return format!("{issuer}/openid/v1/jwks");
    }
    format!("https://{address}/openid/v1/jwks")
}
