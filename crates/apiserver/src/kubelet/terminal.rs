//! `pods/NAME/exec` and `pods/NAME/attach`: a session with the client joined to one with the kubelet.

use super::{place, refused, unreachable};
use crate::admission;
use crate::authz::{self, Action};
use crate::call::Call;
use crate::server::Server;
use crate::status::{Outcome, bad_request, status};
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, Response};
use remotecommand::{ConnectError, Endpoint, StreamOptions, Wire};
use serde_json::Value;
use std::sync::Arc;

/// GET or POST of `/exec` or `/attach`, to be upgraded to websocket or SPDY.
pub(crate) async fn open(server: &Arc<Server>, call: &Call, mut request: Request) -> Outcome<Response<Body>> {
    may_create(server, call).await?;
    admission::connect(server, call).await?;
    let streams = streams(call)?;
    let commands: Vec<&str> = call.query.all("command").collect();
    let is_exec = call.subresource == "exec";
    if is_exec && commands.is_empty() {
        return Err(bad_request("you must specify at least one command for the container"));
    }
    let Some(place) = place(server, call).await? else {
        return Err(bad_request(format!("pod {} does not have a host assigned", call.name)));
    };
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    let wanted = [
        ("input", streams.stdin),
        ("output", streams.stdout),
        ("error", streams.stderr),
        ("tty", streams.tty),
    ];
    parameters.extend(
        wanted
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(name, _)| (name, "1")),
    );
    if is_exec {
        parameters.extend(commands.into_iter().map(|command| ("command", command)));
    }
    let url = place.url(call, &call.subresource, &parameters)?;
    let (response, pending) = remotecommand::accept(&mut request, streams)
        .map_err(|error| status(error.status_code().as_u16(), "", error.to_string(), Value::Null))?;
    // Only now is the client told that the protocol changes: until the kubelet agrees, an error is a plain answer.
    let endpoint = Endpoint {
        url,
        tls: place.kubelet.tls,
        headers: HeaderMap::new(),
        wire: Wire::Spdy,
    };
    let client = remotecommand::connect(&endpoint, streams)
        .await
        .map_err(|error| match error {
            ConnectError::Refused { status, body, .. } => refused(status, &body),
            error => unreachable(&error),
        })?;
    server.spawn(async move {
        match pending.session().await {
            Ok(session) => remotecommand::pipe(session, client).await,
            Err(error) => tracing::debug!(error = crate::status::chain(&error), "a session did not begin"),
        }
    });
    Ok(response.map(|()| Body::empty()))
}

/// A websocket begins with GET, but whoever may only read may not run commands.
pub(super) async fn may_create(server: &Server, call: &Call) -> Outcome<()> {
    let action = Action {
        verb: "create".to_owned(),
        resource: call.kind.plural.to_owned(),
        subresource: call.subresource.clone(),
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        ..Action::default()
    };
    authz::check(server, &call.user, &action).await.map(|_| ())
}

fn streams(call: &Call) -> Outcome<StreamOptions> {
    let flag = |name: &str| call.query.flag(name).unwrap_or(false);
    let tty = flag("tty");
    // A terminal has one output.
    let streams = StreamOptions {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr") && !tty,
        tty,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    Ok(streams)
}
