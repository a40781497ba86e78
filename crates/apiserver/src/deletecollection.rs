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
use futures::StreamExt;
use http::Response;
use std::sync::Arc;

/// How many objects are deleted at the same time.
const DELETES_AT_ONCE: usize = 32;

/// DELETE of a collection; answers with the objects as they were listed.
pub(crate) async fn delete_collection(server: &Arc<Server>, call: &Call, body: Bytes) -> Outcome<Response<Body>> {
    if !call.kind.delete_collection {
        return Err(method_not_allowed());
    }
    let options = DeleteOptions::read(&call.headers, &call.query, body)?;
    let listing = list::read(server, call, &ListOptions::of_list(&call.kind, &call.query)?).await?;
    let names = listing
        .items
        .iter()
        .map(|item| item.metadata()["name"].as_str().unwrap_or("").to_owned());
    let names: Vec<String> = names.collect();
    // The store writes what comes at the same time as one group.
    let options = &options;
    let deletes = names
        .into_iter()
        .map(|name| async move { remove(server, call, &name, options).await });
    let mut deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE);
    while let Some(deleted) = deletes.next().await {
        match deleted {
            Ok(_) => {}
            // Somebody else deleted it in the meantime.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    drop(deletes);
    respond::listing(call, listing)
}
