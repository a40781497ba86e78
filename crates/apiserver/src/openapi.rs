//! The OpenAPI documents: made when first asked for, then kept as bytes with their hash.

use crate::definitions::Served;
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
    /// Documents of groups that no custom resource is in: they never change.
    fixed: Mutex<BTreeMap<String, Arc<Document>>>,
    /// All others, as long as the served kinds stay the same.
    current: Mutex<Arc<Current>>,
}

/// The documents that describe one state of the served kinds.
#[derive(Debug, Default)]
struct Current {
    served: Arc<Served>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
    v3_index: OnceLock<Document>,
    v3: Mutex<BTreeMap<String, Arc<Document>>>,
    discovery: Mutex<BTreeMap<String, Arc<Document>>>,
}

impl Documents {
    fn current(&self, served: &Arc<Served>) -> Arc<Current> {
        let mut current = self
            .current
            .lock()
            .expect("nothing panics while it holds the documents");
        if !Arc::ptr_eq(&current.served, served) {
            *current = Arc::new(Current {
                served: served.clone(),
                ..Current::default()
            });
        }
        current.clone()
    }

    /// An aggregated discovery document.
    pub(crate) fn discovery(&self, served: &Arc<Served>, path: &str, make: impl FnOnce() -> Value) -> Arc<Document> {
        let current = self.current(served);
        let mut made = current.discovery.lock().expect("making a document does not panic");
        made.entry(path.to_owned())
            .or_insert_with(|| Arc::new(Document::of(&make())))
            .clone()
    }

    fn v3(&self, current: &Current, path: &str) -> Option<Arc<Document>> {
        let changes = current
            .served
            .kinds
            .iter()
            .any(|kind| openapi::group_path(kind) == path);
        let made = if changes { &current.v3 } else { &self.fixed };
        // Only paths of served versions are kept, so nobody can fill the memory with others.
        if let Some(made) = made.lock().ok()?.get(path) {
            return Some(made.clone());
        }
        let document = Arc::new(Document::of(&openapi::v3_document(path, &current.served.kinds)?));
        made.lock().ok()?.insert(path.to_owned(), document.clone());
        Some(document)
    }

    fn v3_index<'a>(&self, current: &'a Current) -> &'a Document {
        current.v3_index.get_or_init(|| {
            let mut index = openapi::v3_index(&current.served.kinds);
            for (path, entry) in index["paths"].as_object_mut().into_iter().flatten() {
                if let Some(document) = self.v3(current, path) {
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
    served: &Arc<Served>,
    path: &str,
    hash: Option<&str>,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    const JSON: &str = "application/json";
    let current = documents.current(served);
    let custom = &current.served.kinds;
    let response = match path {
        "/openapi/v2" if wants_protobuf(headers) => {
            let document = current
                .v2_protobuf
                .get_or_init(|| Document::new(openapi::v2_protobuf(custom)));
            document.respond(headers, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        }
        "/openapi/v2" => current
            .v2
            .get_or_init(|| Document::of(&openapi::v2_document(custom)))
            .respond(headers, JSON),
        "/openapi/v3" => documents.v3_index(&current).respond(headers, JSON),
        _ => match path
            .strip_prefix("/openapi/v3/")
            .and_then(|path| documents.v3(&current, path))
        {
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
