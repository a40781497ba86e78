//! Reading one object.

use crate::call::Call;
use crate::list::wait_for;
use crate::options::parse_revision;
use crate::respond;
use crate::server::Server;
use crate::status::Outcome;
use crate::stored::Stored;
use axum::body::Body;
use http::{Response, StatusCode};

/// GET of an object, also through `/status`.
pub(crate) async fn get(server: &Server, call: &Call) -> Outcome<Response<Body>> {
    if let Some(revision) = call.query.get("resourceVersion") {
        wait_for(server, parse_revision(revision)?).await?;
    }
    let kv = server.existing(&call.kind, &call.namespace, &call.name).await?;
    respond::object(call, StatusCode::OK, &Stored::from(&kv))
}
