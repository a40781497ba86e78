//! DELETE of a collection: each selected object is deleted as if by itself.

use crate::call::Call;
use crate::delete::{DeleteOptions, remove};
use crate::list;
use crate::options::ListOptions;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, method_not_allowed};
use axum::body::Body;
use bytes::Bytes;
use http::Response;
use std::sync::Arc;

/// DELETE of a collection; answers with the objects as they were listed.
pub(crate) async fn delete_collection(server: &Arc<Server>, call: &Call, body: Bytes) -> Outcome<Response<Body>> {
    if !call.kind.delete_collection {
        return Err(method_not_allowed());
    }
    let options = DeleteOptions::read(&call.headers, &call.query, body)?;
    let listing = list::read(server, call, &ListOptions::of_list(call.kind, &call.query)?).await?;
    for item in &listing.items {
        let metadata = item.metadata();
        let name = metadata["name"].as_str().unwrap_or("");
        match remove(server, call, name, &options).await {
            Ok(_) => {}
            // Somebody else deleted it in the meantime.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    respond::listing(call, &listing)
}
