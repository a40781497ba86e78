//! `pods/NAME/portforward`: the client's connection is joined to one with the kubelet, over which SPDY is spoken.

use super::terminal::may_create;
use super::{of_node, refused, unreachable};
use crate::backend::Answer;
use crate::call::Call;
use crate::create::text;
use crate::server::Server;
use crate::status::{Outcome, bad_request, chain, status};
use crate::stored::Stored;
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use remotecommand::{port_forward, tunnel};
use serde_json::Value;
use std::sync::Arc;

/// GET or POST of `/portforward`, to be upgraded to SPDY or a websocket.
pub(crate) async fn open(server: &Arc<Server>, call: &Call, mut request: Request) -> Outcome<Response<Body>> {
    may_create(server, call).await?;
    crate::admission::connect(server, call).await?;
    let kv = server.existing(&call.kind, &call.namespace, &call.name).await?;
    let pod = Stored::from(&kv).object(&call.kind)?;
    let Some(node) = text(&pod["spec"]["nodeName"]) else {
        return Err(bad_request(format!("pod {} does not have a host assigned", call.name)));
    };
    let not_accepted =
        |error: remotecommand::Refused| status(error.status_code().as_u16(), "", error.to_string(), Value::Null);
    if tunnel::wants_websocket(&request) {
        let ports = ports(call)?;
        let (response, pending) = tunnel::accept(&mut request).map_err(not_accepted)?;
        if pending.needs_ports() && ports.is_empty() {
            return Err(bad_request("query parameter \"port\" is required"));
        }
        let far = far(server, call, node).await?;
        server.spawn(async move {
            match far.await {
                Ok(far) => pending.join(TokioIo::new(far), &ports).await,
                Err(error) => tracing::debug!(error = chain(&error), "the kubelet did not switch protocols"),
            }
        });
        return Ok(response.map(|()| Body::empty()));
    }
    let (response, near) = port_forward::accept(&mut request).map_err(not_accepted)?;
    let far = far(server, call, node).await?;
    server.spawn(async move {
        let (near, far) = match tokio::try_join!(near.connection(), far) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(error = chain(&error), "a port-forward session did not begin"),
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
            tracing::debug!(%error, "a port-forward session broke");
        }
    });
    Ok(response.map(|()| Body::empty()))
}

/// The ports that clients of the channel protocol name beforehand.
fn ports(call: &Call) -> Outcome<Vec<u16>> {
    let named = call.query.all("ports").flat_map(|ports| ports.split(','));
    let number = |port: &str| port.parse().ok().filter(|port| *port > 0);
    let ports = named.map(|port| number(port).ok_or_else(|| bad_request(format!("invalid port {port:?}"))));
    ports.collect()
}

/// The connection with the kubelet, upgraded to SPDY.
async fn far(server: &Server, call: &Call, node: &str) -> Outcome<hyper::upgrade::OnUpgrade> {
    let kubelet = of_node(server, node).await?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    let path = format!("/portForward/{}/{}", call.namespace, call.name);
    *request.uri_mut() = path.parse().map_err(|_| bad_request("the pod's name is not valid"))?;
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(
        "x-stream-protocol-version",
        HeaderValue::from_static(port_forward::PROTOCOL),
    );
    let answer = kubelet.send(request).await.map_err(|error| unreachable(&error))?;
    let Answer {
        mut response,
        connection,
    } = answer;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status();
        let body = Limited::new(response.into_body(), 64 * 1024).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return Err(refused(code, &body));
    }
    let upgrade = hyper::upgrade::on(&mut response);
    // It ends by itself when the upgraded connection has been handed over.
    connection.detach();
    Ok(upgrade)
}
