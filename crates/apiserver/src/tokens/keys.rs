//! The keys behind tokens: signing with one of them, verifying with any, and the public halves as JSON web keys.
//!
//! ES256 (P-256) and RS256 (RSA) are known, as by upstream. A key's id is the digest of its public half, so that it is
//! the same on every server that has the key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use std::sync::Arc;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The head of an encoded P-256 public key; its point follows.
const P256_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The algorithm of an RSA public key: its object identifier and no parameters.
const RSA_ALGORITHM: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// The key that signs tokens of service accounts, and all keys that they are verified with.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    signer: Arc<Signer>,
    verifiers: Vec<Verifier>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The signing key's text is no private key in PEM form.
    #[error("the signing key is no private key in PEM form")]
    NoPrivateKey,
    /// The signing key is neither RSA nor a P-256 key in PKCS #8 form.
    #[error("the signing key is neither an RSA key of 2048 bits or more nor a P-256 key in PKCS #8 form: {0}")]
    Unusable(String),
    /// A verification key's text is no public key in PEM form.
    #[error("a verification key is no RSA or P-256 public key in PEM form")]
    NoPublicKey,
    /// No key could be made.
    #[error("no key could be made")]
    Generation,
}

#[derive(Debug)]
enum Signer {
    Es256(Box<EcdsaKeyPair>, String),
    Rs256(Box<RsaKeyPair>, String),
}

/// A public key.
#[derive(Clone, Debug)]
struct Verifier {
    id: String,
    key: Public,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    /// The uncompressed point.
    P256(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl TokenKeys {
    /// A new P-256 key that lives as long as this value.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let key = made.map_err(|_| KeyError::Generation)?;
        Self::of(p256(key.as_ref())?, &[])
    }

    /// Reads the private key that signs, and further public keys whose tokens are taken too, all in PEM form.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn from_pem(signing: &str, verifying: &[String]) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(signing.as_bytes()).map_err(|_| KeyError::NoPrivateKey)?;
        let rsa = |made: Result<RsaKeyPair, ring::error::KeyRejected>| made.map(|key| (Box::new(key), String::new()));
        let signer = match &key {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => match p256(der.secret_pkcs8_der()) {
                Ok(signer) => return Self::of(signer, verifying),
                Err(_) => rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())),
            },
            _ => {
                return Err(KeyError::Unusable(
                    "convert it with `openssl pkcs8 -topk8 -nocrypt`".to_owned(),
                ));
            }
        };
        let (key, id) = signer.map_err(|error| KeyError::Unusable(error.to_string()))?;
        Self::of(Signer::Rs256(key, id), verifying)
    }

    fn of(signer: Signer, verifying: &[String]) -> Result<Self, KeyError> {
        let own = Verifier::from_info(&signer.public_info())?;
        let signer = signer.with_id(own.id.clone());
        let mut verifiers = vec![own];
        for pem in verifying {
            let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NoPublicKey)?;
            let verifier = Verifier::from_info(&info)?;
            if verifiers.iter().all(|known| known.id != verifier.id) {
                verifiers.push(verifier);
            }
        }
        Ok(Self {
            signer: Arc::new(signer),
            verifiers,
        })
    }

    /// Signs claims; `None` only if the system has no randomness.
    pub(crate) fn sign(&self, claims: &impl serde::Serialize) -> Option<String> {
        let (algorithm, id) = match &*self.signer {
            Signer::Es256(_, id) => ("ES256", id),
            Signer::Rs256(_, id) => ("RS256", id),
        };
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "kid": id}).to_string());
        let mut token = head + "." + &URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).ok()?);
        let random = SystemRandom::new();
        let signature = match &*self.signer {
            Signer::Es256(key, _) => key.sign(&random, token.as_bytes()).ok()?.as_ref().to_vec(),
            Signer::Rs256(key, _) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature)
                    .ok()?;
                signature
            }
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// The claims of a token that one of the keys has signed.
    pub(crate) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, payload) = signed.split_once('.')?;
        let head: Head = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mut candidates = self.verifiers.iter().filter(|verifier| {
            // The algorithm belongs to the key; what the token says of it can only exclude keys.
            verifier.key.algorithm() == head.alg && (head.kid.is_empty() || head.kid == verifier.id)
        });
        candidates
            .any(|verifier| verifier.key.verifies(signed.as_bytes(), &signature))
            .then(|| URL_SAFE_NO_PAD.decode(payload).ok())
            .flatten()
    }

    /// The names of the algorithms, each once.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let mut algorithms: Vec<_> = self.verifiers.iter().map(|verifier| verifier.key.algorithm()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }

    pub(crate) fn key_set(&self) -> Value {
        let keys: Vec<Value> = self.verifiers.iter().map(Verifier::web_key).collect();
        json!({"keys": keys})
    }
}

#[derive(serde::Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: String,
}

fn p256(pkcs8: &[u8]) -> Result<Signer, KeyError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
        .map(|key| Signer::Es256(Box::new(key), String::new()))
        .map_err(|error| KeyError::Unusable(error.to_string()))
}

impl Signer {
    fn with_id(self, id: String) -> Self {
        match self {
            Self::Es256(key, _) => Self::Es256(key, id),
            Self::Rs256(key, _) => Self::Rs256(key, id),
        }
    }

    /// The public half, encoded as a `SubjectPublicKeyInfo`.
    fn public_info(&self) -> SubjectPublicKeyInfoDer<'static> {
        let info = match self {
            Self::Es256(key, _) => [P256_HEAD, key.public_key().as_ref()].concat(),
            Self::Rs256(key, _) => {
                let bits = [&[0], key.public().as_ref()].concat();
                tagged(0x30, &[RSA_ALGORITHM, &tagged(0x03, &bits)].concat())
            }
        };
        SubjectPublicKeyInfoDer::from(info)
    }
}

/// A DER value: tag, length, content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match length {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).expect("a length has at most eight bytes"));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

impl Verifier {
    fn from_info(info: &SubjectPublicKeyInfoDer<'_>) -> Result<Self, KeyError> {
        let (_, parsed) = SubjectPublicKeyInfo::from_der(info).map_err(|_| KeyError::NoPublicKey)?;
        let key = match parsed.parsed() {
            Ok(PublicKey::EC(point)) if info.starts_with(P256_HEAD) => Public::P256(point.data().to_vec()),
            Ok(PublicKey::RSA(key)) => Public::Rsa {
                modulus: without_leading_zeros(key.modulus),
                exponent: without_leading_zeros(key.exponent),
            },
            _ => return Err(KeyError::NoPublicKey),
        };
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, info));
        Ok(Self { id, key })
    }

    fn web_key(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.key {
            // The point is the byte 4 and two coordinates.
            Public::P256(point) => {
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Public::Rsa { modulus, exponent } => json!({"kty": "RSA", "n": text(modulus), "e": text(exponent)}),
        };
        key["use"] = json!("sig");
        key["kid"] = json!(self.id);
        key["alg"] = json!(self.key.algorithm());
        key
    }
}

fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

impl Public {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Rsa { .. } => "RS256",
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Value {
        json!({"sub": "x"})
    }

    #[test]
    fn what_is_signed_is_verified_and_nothing_else() {
        let (ours, theirs) = (TokenKeys::generate().unwrap(), TokenKeys::generate().unwrap());
        let token = ours.sign(&claims()).unwrap();
        assert_eq!(ours.verify(&token).unwrap(), claims().to_string().as_bytes());
        assert_eq!(theirs.verify(&token), None);
        let (signed, _) = token.rsplit_once('.').unwrap();
        for forged in [
            signed.to_owned(),
            format!("{signed}."),
            format!("{token}A"),
            String::new(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(ours.verify(&forged), None, "{forged}");
        }
    }

    #[test]
    fn a_token_cannot_choose_its_algorithm() {
        let keys = TokenKeys::generate().unwrap();
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        for alg in ["none", "HS256", "RS256"] {
            let head = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
            assert_eq!(keys.verify(&format!("{head}.{payload}.")), None);
        }
    }

    #[test]
    fn a_pem_key_keeps_its_id_and_verifies_what_it_signed_before() {
        let pem = rcgen::KeyPair::generate().unwrap();
        let first = TokenKeys::from_pem(&pem.serialize_pem(), &[]).unwrap();
        let token = first.sign(&claims()).unwrap();
        let again = TokenKeys::from_pem(&pem.serialize_pem(), &[]).unwrap();
        assert!(again.verify(&token).is_some());
        let other = rcgen::KeyPair::generate().unwrap();
        let rotated = TokenKeys::from_pem(&other.serialize_pem(), &[pem.public_key_pem()]).unwrap();
        assert!(rotated.verify(&token).is_some());
        assert_eq!(rotated.key_set()["keys"].as_array().unwrap().len(), 2);
        assert_eq!(rotated.key_set()["keys"][1], first.key_set()["keys"][0]);
    }

    #[test]
    fn rsa_keys_sign_too() {
        let pem = include_str!("../../tests/support/rsa.key");
        let keys = TokenKeys::from_pem(pem, &[]).unwrap();
        let token = keys.sign(&claims()).unwrap();
        assert!(keys.verify(&token).is_some());
        assert_eq!(keys.algorithms(), ["RS256"]);
        assert_eq!(keys.key_set()["keys"][0]["e"], "AQAB");
        let public = include_str!("../../tests/support/rsa.pub").to_owned();
        let both = TokenKeys::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem(), &[public]).unwrap();
        assert!(both.verify(&token).is_some());
        assert_eq!(both.algorithms(), ["ES256", "RS256"]);
    }

    #[test]
    fn other_texts_are_no_keys() {
        assert!(matches!(TokenKeys::from_pem("", &[]), Err(KeyError::NoPrivateKey)));
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(matches!(
            TokenKeys::from_pem(&pem, &["x".to_owned()]),
            Err(KeyError::NoPublicKey)
        ));
    }
}
