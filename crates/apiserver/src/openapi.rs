//! The OpenAPI documents: made when first asked for, then kept as bytes with their hash.

use api::openapi;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ring::digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// A document as it is served.
#[derive(Debug)]
pub(crate) struct Document {
    bytes: Bytes,
    /// Upper-case hexadecimal SHA-512, as clients see it in URLs.
    hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = digest::digest(&digest::SHA512, &bytes);
        let mut hash = String::with_capacity(128);
        for byte in digest.as_ref() {
            write!(hash, "{byte:02X}").expect("a string takes all that is written to it");
        }
        Self {
            bytes: Bytes::from(bytes),
            hash,
        }
    }

    fn of(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    /// The document, or 304 if the client has it.
    pub(crate) fn respond(&self, headers: &HeaderMap, content_type: &'static str) -> Response<Body> {
        let etag = format!("\"{}\"", self.hash);
        let known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let is_known = known
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim().trim_start_matches("W/") == etag);
        let mut response = Response::new(if is_known {
            Body::empty()
        } else {
            Body::from(self.bytes.clone())
        });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Ok(etag) = HeaderValue::try_from(etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// All documents that were asked for so far.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
    v3_index: OnceLock<Document>,
    v3: Mutex<BTreeMap<String, Option<Arc<Document>>>>,
    discovery: Mutex<BTreeMap<String, Arc<Document>>>,
}

impl Documents {
    /// An aggregated discovery document.
    pub(crate) fn discovery(&self, path: &str, make: impl FnOnce() -> Value) -> Arc<Document> {
        let mut made = self.discovery.lock().expect("making a document does not panic");
        made.entry(path.to_owned())
            .or_insert_with(|| Arc::new(Document::of(&make())))
            .clone()
    }

    fn v3(&self, path: &str) -> Option<Arc<Document>> {
        // Only paths of served versions are kept, so nobody can fill the memory with others.
        if let Some(made) = self.v3.lock().ok()?.get(path) {
            return made.clone();
        }
        let made = Arc::new(Document::of(&openapi::v3_document(path)?));
        self.v3.lock().ok()?.insert(path.to_owned(), Some(made.clone()));
        Some(made)
    }

    fn v3_index(&self) -> &Document {
        self.v3_index.get_or_init(|| {
            let mut index = openapi::v3_index();
            for (path, entry) in index["paths"].as_object_mut().into_iter().flatten() {
                if let Some(document) = self.v3(path) {
                    entry["serverRelativeURL"] = Value::from(format!("/openapi/v3/{path}?hash={}", document.hash));
                }
            }
            Document::of(&index)
        })
    }
}

/// GET below `/openapi`; `None` if there is no such document. `hash` is that of the client's URL: what it names never
/// changes, so the client may keep it.
pub(crate) fn get(
    documents: &Documents,
    path: &str,
    hash: Option<&str>,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    const JSON: &str = "application/json";
    let response = match path {
        "/openapi/v2" if wants_protobuf(headers) => {
            let document = documents
                .v2_protobuf
                .get_or_init(|| Document::new(openapi::v2_protobuf()));
            document.respond(headers, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        }
        "/openapi/v2" => documents
            .v2
            .get_or_init(|| Document::of(&openapi::v2_document()))
            .respond(headers, JSON),
        "/openapi/v3" => documents.v3_index().respond(headers, JSON),
        _ => match path.strip_prefix("/openapi/v3/").and_then(|path| documents.v3(path)) {
            Some(document) => {
                let mut response = document.respond(headers, JSON);
                if hash == Some(document.hash.as_str()) {
                    let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                    response.headers_mut().insert(header::CACHE_CONTROL, forever);
                }
                response
            }
            None => return None,
        },
    };
    Some(response)
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|clause| {
        let media_type = clause.split(';').next().unwrap_or("").trim();
        media_type == V2_PROTOBUF || media_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    })
}
