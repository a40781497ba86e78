//! DELETE of a collection: each selected object is deleted as if by itself.

use crate::call::Call;
use crate::delete::{DeleteOptions, remove};
use crate::list;
use crate::options::ListOptions;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, internal, method_not_allowed};
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Response;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How many tasks delete, so that more than one processor can.
const WORKERS: usize = 4;

/// How many objects each deletes at the same time. The store makes what comes together durable together, so with few at
/// once the time goes by with waiting for the disk.
const DELETES_AT_ONCE: usize = 128;

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
    remove_all(server, call, names, options).await?;
    respond::listing(call, listing)
}

/// Deletes the objects of these names; ends with the first that cannot be deleted.
async fn remove_all(server: &Arc<Server>, call: &Call, names: Vec<String>, options: DeleteOptions) -> Outcome<()> {
    let shared = Arc::new((call.clone(), options));
    let share = names.len().div_ceil(WORKERS).max(1);
    let mut workers = JoinSet::new();
    for names in names.chunks(share) {
        let (server, shared, names) = (server.clone(), shared.clone(), names.to_vec());
        workers.spawn(async move {
            let deletes = names.into_iter().map(|name| {
                let (server, shared) = (server.clone(), shared.clone());
                async move { remove_if_there(&server, &shared.0, &name, &shared.1).await }
            });
            let deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE);
            deletes.try_collect::<()>().await
        });
    }
    // With the set, whatever is not done yet is dropped.
    while let Some(done) = workers.join_next().await {
        done.map_err(|error| internal(format!("the objects could not be deleted: {error}")))??;
    }
    Ok(())
}

async fn remove_if_there(server: &Arc<Server>, call: &Call, name: &str, options: &DeleteOptions) -> Outcome<()> {
    match remove(server, call, name, options).await {
        Err(status) if status.code != 404 => Err(status),
        // Or somebody else deleted it in the meantime.
        _ => Ok(()),
    }
}
