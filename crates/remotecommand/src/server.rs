//! Taking over an HTTP request that wants to run or attach to a command.

use crate::protocol::{SPDY_PROTOCOLS, SpdyProtocol, WEBSOCKET_PROTOCOLS, WebSocketProtocol};
use crate::session::{ServerSession, SessionError, StreamOptions};
use crate::{spdy_session, websocket};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub(crate) const STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Why a request cannot be taken over. Answer it with a `Status` of this code and the error's text.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not ask for an upgrade that is known here.
    #[error("unable to upgrade: the request asks for neither websocket nor SPDY/3.1")]
    NotAnUpgrade,
    /// It asks for an upgrade, but on a connection that cannot be taken over (as HTTP/2 is).
    #[error("unable to upgrade: the connection cannot be taken over")]
    NotUpgradable,
    /// The websocket handshake is incomplete.
    #[error("unable to upgrade: Sec-WebSocket-Key or version 13 is missing")]
    BadHandshake,
    /// None of the protocols that it offers is known here.
    #[error("unable to negotiate protocol: client supports {offered}")]
    UnknownProtocol {
        /// What it offers.
        offered: String,
    },
}

impl Refused {
    /// The HTTP status for this refusal.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::NotUpgradable | Self::BadHandshake => StatusCode::BAD_REQUEST,
            Self::UnknownProtocol { .. } => StatusCode::FORBIDDEN,
        }
    }
}

enum Negotiated {
    WebSocket(WebSocketProtocol),
    Spdy(SpdyProtocol),
}

/// A session that begins when the response has been sent.
pub struct Pending {
    upgrade: OnUpgrade,
    negotiated: Negotiated,
    streams: StreamOptions,
}

/// Takes a request over. Send the response (with an empty body) and run [`Pending::session`] in a task of its own.
///
/// Decide all that can fail before this call: once the response is 101, errors can only be told as the session's
/// result. The server must serve its connections with upgrades.
///
/// # Errors
/// [`Refused`] if the request does not ask for a protocol that is known here.
pub fn accept<B>(request: &mut Request<B>, streams: StreamOptions) -> Result<(Response<()>, Pending), Refused> {
    let (negotiated, response) = negotiate(request.headers())?;
    // hyper leaves this in each request that can be upgraded.
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Refused::NotUpgradable);
    }
    let upgrade = hyper::upgrade::on(request);
    Ok((
        response,
        Pending {
            upgrade,
            negotiated,
            streams,
        },
    ))
}

impl Pending {
    /// Waits for the connection and begins.
    ///
    /// # Errors
    /// [`SessionError`] if the connection was lost or the client did not open its streams.
    pub async fn session(self) -> Result<ServerSession, SessionError> {
        let connection = self.upgrade.await.map_err(SessionError::Upgrade)?;
        let connection = hyper_util::rt::TokioIo::new(connection);
        match self.negotiated {
            Negotiated::WebSocket(protocol) => Ok(websocket::serve(connection, protocol, self.streams).await),
            Negotiated::Spdy(protocol) => spdy_session::serve(connection, protocol, self.streams).await,
        }
    }
}

/// Whether a request asks for an upgrade to a protocol.
pub(crate) fn wants_upgrade(headers: &HeaderMap, protocol: &str) -> bool {
    let lists_it = |name: &HeaderName, token: &str| lists(headers, name).any(|t| t.eq_ignore_ascii_case(token));
    lists_it(&CONNECTION, "upgrade") && lists_it(&UPGRADE, protocol)
}

fn negotiate(headers: &HeaderMap) -> Result<(Negotiated, Response<()>), Refused> {
    if wants_upgrade(headers, "websocket") {
        negotiate_websocket(headers)
    } else if wants_upgrade(headers, "SPDY/3.1") {
        negotiate_spdy(headers)
    } else {
        Err(Refused::NotAnUpgrade)
    }
}

fn negotiate_websocket(headers: &HeaderMap) -> Result<(Negotiated, Response<()>), Refused> {
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refused::BadHandshake)?;
    if headers
        .get(http::header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refused::BadHandshake);
    }
    let known = |name: &str| WEBSOCKET_PROTOCOLS.into_iter().find(|protocol| protocol.name == name);
    let offers: Vec<_> = lists(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let mut response = switching("websocket");
    let protocol = if offers.is_empty() {
        // A client that names none speaks the first version.
        known("channel.k8s.io")
    } else {
        offers.iter().find_map(|name| known(name))
    };
    let protocol = protocol.ok_or_else(|| Refused::UnknownProtocol {
        offered: offers.join(", "),
    })?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !offers.is_empty() {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name));
    }
    Ok((Negotiated::WebSocket(protocol), response))
}

fn negotiate_spdy(headers: &HeaderMap) -> Result<(Negotiated, Response<()>), Refused> {
    let offers: Vec<_> = lists(headers, &STREAM_PROTOCOL_VERSION).collect();
    let protocol = SPDY_PROTOCOLS
        .into_iter()
        .find(|protocol| offers.contains(&protocol.name));
    // A client that names none speaks the first version.
    let protocol = protocol.or_else(|| offers.is_empty().then(|| SPDY_PROTOCOLS[SPDY_PROTOCOLS.len() - 1]));
    let protocol = protocol.ok_or_else(|| Refused::UnknownProtocol {
        offered: offers.join(", "),
    })?;
    let mut response = switching("SPDY/3.1");
    if !offers.is_empty() {
        response
            .headers_mut()
            .insert(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(protocol.name));
    }
    Ok((Negotiated::Spdy(protocol), response))
}

pub(crate) fn switching(protocol: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// The members of a header that may hold lists and be repeated.
pub(crate) fn lists<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}
