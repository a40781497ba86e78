//! One-way websockets: what is read somewhere else, message by message (`binary.k8s.io`, `base64.binary.k8s.io`).

use crate::server::{Refused, lists, switching, wants_upgrade};
use crate::websocket;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::{HeaderValue, Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{self, Message, protocol};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// A websocket that begins when the response has been sent.
pub struct Pending {
    upgrade: OnUpgrade,
    is_base64: bool,
}

/// Whether a request asks for a websocket.
pub fn is_wanted<B>(request: &Request<B>) -> bool {
    wants_upgrade(request.headers(), "websocket")
}

/// Takes a request over. Send the response (with an empty body) and run [`Pending::send`] in a task of its own.
///
/// # Errors
/// [`Refused`] if the request offers no protocol that is known here.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, Pending), Refused> {
    let headers = request.headers();
    let is_13 = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_13);
    let key = key.ok_or(Refused::BadHandshake)?.clone();
    let offers: Vec<&str> = lists(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let chosen = [BINARY, BASE64].into_iter().find(|name| offers.contains(name));
    if chosen.is_none() && !offers.is_empty() {
        let offered = offers.join(", ");
        return Err(Refused::UnknownProtocol { offered });
    }
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Refused::NotUpgradable);
    }
    let mut response = switching("websocket");
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = chosen {
        let name = HeaderValue::from_static(name);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    let upgrade = hyper::upgrade::on(request);
    let is_base64 = chosen == Some(BASE64);
    Ok((response, Pending { upgrade, is_base64 }))
}

impl Pending {
    /// Sends all pieces, until they end or the client goes away.
    pub async fn send<E>(self, pieces: impl Stream<Item = Result<Bytes, E>> + Unpin) {
        let connection = match self.upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => return tracing::debug!(%error, "a websocket was not taken"),
        };
        let socket = websocket::open(connection, protocol::Role::Server).await;
        let (mut to_client, mut from_client) = socket.split();
        let is_base64 = self.is_base64;
        let message = |bytes: Bytes| {
            if is_base64 {
                Message::Text(STANDARD.encode(bytes).into())
            } else {
                Message::Binary(bytes)
            }
        };
        let sending = async {
            // Upstream begins with an empty message, too: the client knows that it has been heard.
            to_client.send(message(Bytes::new())).await?;
            let mut pieces = pieces;
            while let Some(Ok(piece)) = pieces.next().await {
                to_client.send(message(piece)).await?;
            }
            to_client.close().await
        };
        // Nothing that a client says matters, but its pings are answered and its end is noticed.
        let hearing = async {
            while let Some(heard) = from_client.next().await {
                if heard?.is_close() {
                    break;
                }
            }
            Ok::<(), tungstenite::Error>(())
        };
        let ended = tokio::select! {
            ended = sending => ended,
            ended = hearing => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a websocket ended early");
        }
    }
}
