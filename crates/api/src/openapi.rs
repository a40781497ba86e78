//! The OpenAPI documents that clients ask for, made at run time from the schema table and k8s-openapi's descriptions.

use serde_json::Value;

/// `/openapi/v3`: the index of group versions.
pub fn v3_index() -> Value {
    unimplemented!()
}

/// `/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`; `path` is the part after `/openapi/v3/`.
pub fn v3_document(_path: &str) -> Option<Value> {
    unimplemented!()
}

/// `/openapi/v2` as JSON.
pub fn v2_document() -> Value {
    unimplemented!()
}

/// `/openapi/v2` as the protobuf message `openapi.v2.Document` that kubectl before 1.27 asks for.
pub fn v2_protobuf() -> Vec<u8> {
    unimplemented!()
}
