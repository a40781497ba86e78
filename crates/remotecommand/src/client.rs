//! Asking another server to run or attach to a command.

use crate::protocol::{SPDY_PROTOCOLS, WEBSOCKET_PROTOCOLS};
use crate::server::STREAM_PROTOCOL_VERSION;
use crate::session::{ClientSession, SessionError, StreamOptions};
use crate::{spdy_session, websocket};
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

/// The longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Which protocol to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Websocket, `v5.channel.k8s.io` or, if the server does not know that, `v4.channel.k8s.io`, which cannot tell the
    /// end of standard input.
    WebSocket,
    /// SPDY/3.1 with `v4.channel.k8s.io` or earlier. Known by every kubelet, containerd and CRI-O; tells the end of
    /// standard input.
    #[default]
    Spdy,
}

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The whole URL with its query, `http://` or `https://`.
    pub url: Uri,
    /// Needed for `https://`: whom to trust, and our certificate.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// More headers for the request.
    pub headers: HeaderMap,
    /// The protocol.
    pub wire: Wire,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL lacks something.
    #[error("url {0} cannot be connected to")]
    Url(Uri),
    /// TCP or TLS failed.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// HTTP failed.
    #[error("request failed")]
    Http(#[source] hyper::Error),
    /// The server answered, but did not switch protocols. Its answer is what the user should see.
    #[error("server refused with {status}")]
    Refused {
        /// Its HTTP status.
        status: StatusCode,
        /// The type of the body.
        content_type: Option<HeaderValue>,
        /// The body, often a `Status` object.
        body: Bytes,
    },
    /// The server switched to something that was not asked for.
    #[error("server broke the handshake: {0}")]
    Handshake(&'static str),
    /// The streams could not be opened.
    #[error("cannot open the streams")]
    Session(#[source] SessionError),
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens a session.
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::Refused`] if the server answered with something else than a session.
pub async fn connect(endpoint: &Endpoint, streams: StreamOptions) -> Result<ClientSession, ConnectError> {
    let connection = dial(endpoint).await?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(ConnectError::Http)?;
    // Ends when the connection is taken over, or fails, or `sender` is dropped.
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(driver.with_upgrades()));
    let (request, key) = request(endpoint)?;
    let response = sender.send_request(request).await.map_err(ConnectError::Http)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(response).await.map_err(ConnectError::Http)?;
    drop(driver);
    let connection = TokioIo::new(upgraded);
    match endpoint.wire {
        Wire::WebSocket => {
            let name = selected(&headers, &SEC_WEBSOCKET_PROTOCOL)?;
            let right = headers
                .get(SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|accept| *accept == *derive_accept_key(key.as_bytes()));
            if !right {
                return Err(ConnectError::Handshake("wrong Sec-WebSocket-Accept"));
            }
            let known = WEBSOCKET_PROTOCOLS
                .into_iter()
                .find(|protocol| protocol.name == name && !protocol.base64);
            let protocol = known.ok_or(ConnectError::Handshake("unknown subprotocol"))?;
            Ok(websocket::connect(connection, protocol, streams).await)
        }
        Wire::Spdy => {
            let name = selected(&headers, &STREAM_PROTOCOL_VERSION)?;
            let known = SPDY_PROTOCOLS.into_iter().find(|protocol| protocol.name == name);
            let protocol = known.ok_or(ConnectError::Handshake("unknown stream protocol"))?;
            spdy_session::connect(connection, protocol, streams)
                .await
                .map_err(ConnectError::Session)
        }
    }
}

async fn dial(endpoint: &Endpoint) -> Result<Box<dyn Connection>, ConnectError> {
    let no_url = || ConnectError::Url(endpoint.url.clone());
    // An IPv6 address is written in brackets.
    let host = endpoint
        .url
        .host()
        .ok_or_else(no_url)?
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let is_tls = match endpoint.url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(no_url()),
    };
    let port = endpoint.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(ConnectError::Connect)?;
    tcp.set_nodelay(true).map_err(ConnectError::Connect)?;
    if !is_tls {
        return Ok(Box::new(tcp));
    }
    let mut config = rustls::ClientConfig::clone(endpoint.tls.as_ref().ok_or_else(no_url)?);
    // Upgrades exist in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host).map_err(|_| no_url())?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(ConnectError::Connect)?;
    Ok(Box::new(tls))
}

/// The request, and its websocket key.
fn request(endpoint: &Endpoint) -> Result<(Request<Empty<Bytes>>, String), ConnectError> {
    let no_url = || ConnectError::Url(endpoint.url.clone());
    let target = endpoint.url.path_and_query().map_or("/", |target| target.as_str());
    let host = endpoint.url.authority().ok_or_else(no_url)?.as_str();
    let mut request = Request::builder()
        .uri(target)
        .body(Empty::new())
        .map_err(|_| no_url())?;
    let key = generate_key();
    let headers = request.headers_mut();
    *headers = endpoint.headers.clone();
    headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| no_url())?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match endpoint.wire {
        Wire::WebSocket => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(
                SEC_WEBSOCKET_KEY,
                HeaderValue::try_from(&key).expect("base64 is a header value"),
            );
            let offers = HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io");
            headers.insert(SEC_WEBSOCKET_PROTOCOL, offers);
        }
        Wire::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            for protocol in SPDY_PROTOCOLS {
                headers.append(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(protocol.name));
            }
            *request.method_mut() = Method::POST;
        }
    }
    Ok((request, key))
}

fn selected<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, ConnectError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or(ConnectError::Handshake("no protocol was selected"))
}

async fn refused(response: Response<Incoming>) -> ConnectError {
    let status = response.status();
    let content_type = response.headers().get(http::header::CONTENT_TYPE).cloned();
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    // A body that cannot be read changes nothing about the refusal.
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    ConnectError::Refused {
        status,
        content_type,
        body,
    }
}
