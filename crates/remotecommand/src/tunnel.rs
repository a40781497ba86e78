//! Port-forward over websockets: SPDY carried in binary messages (`SPDY/3.1+portforward.k8s.io`), and the older form
//! with two numbered channels for each port (`v4.channel.k8s.io`). Either is joined to a SPDY connection.

use crate::server::{Refused, lists, switching, wants_upgrade};
use crate::spdy::{Connection, Role, Stream, Writer};
use crate::websocket;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::{HeaderValue, Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{self, Message, protocol};

/// SPDY in binary messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Two channels for each port.
const CHANNELS: &str = "v4.channel.k8s.io";

/// Bytes taken from the far side at once.
const READ_BYTES: usize = 16 * 1024;

/// Messages that may wait to be sent to the client.
const WAITING_MESSAGES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Tunnel,
    Channels,
}

/// A websocket that begins when the response has been sent.
pub struct Pending {
    upgrade: OnUpgrade,
    form: Form,
}

/// Whether a request asks for a websocket.
pub fn wants_websocket<B>(request: &Request<B>) -> bool {
    wants_upgrade(request.headers(), "websocket")
}

/// Takes a websocket request for port-forward over. Send the response (with an empty body) and run [`Pending::join`] in
/// a task of its own.
///
/// # Errors
/// [`Refused`] if the request does not offer a protocol that is known here.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, Pending), Refused> {
    if !wants_websocket(request) {
        return Err(Refused::NotAnUpgrade);
    }
    let headers = request.headers();
    let is_13 = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_13);
    let key = key.ok_or(Refused::BadHandshake)?.clone();
    let offers: Vec<&str> = lists(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let known = [(TUNNEL, Form::Tunnel), (CHANNELS, Form::Channels)];
    let chosen = known.into_iter().find(|(name, _)| offers.contains(name));
    let (name, form) = chosen.ok_or_else(|| Refused::UnknownProtocol {
        offered: offers.join(", "),
    })?;
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Refused::NotUpgradable);
    }
    let mut response = switching("websocket");
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    let upgrade = hyper::upgrade::on(request);
    Ok((response, Pending { upgrade, form }))
}

impl Pending {
    /// Whether the client has to name its ports beforehand.
    #[must_use]
    pub fn needs_ports(&self) -> bool {
        self.form == Form::Channels
    }

    /// Joins the client with a connection on which port-forward is spoken over SPDY, until one of them ends.
    pub async fn join<T>(self, far: T, ports: &[u16])
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = match self.upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => return tracing::debug!(%error, "a port-forward session did not begin"),
        };
        let socket = websocket::open(connection, protocol::Role::Server).await;
        let ended = match self.form {
            Form::Tunnel => tunnel(socket, far).await,
            Form::Channels => channels(socket, far, ports).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a port-forward session ended early");
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Each message is a piece of the connection.
async fn tunnel<T: AsyncRead + AsyncWrite>(socket: Socket, far: T) -> Result<(), tungstenite::Error> {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let up = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) => to_far.write_all(&bytes).await.map_err(tungstenite::Error::Io)?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok(())
    };
    let down = async {
        loop {
            let mut bytes = BytesMut::with_capacity(READ_BYTES);
            let read = from_far.read_buf(&mut bytes).await.map_err(tungstenite::Error::Io)?;
            if read == 0 {
                return to_client.close().await;
            }
            to_client.send(Message::Binary(bytes.freeze())).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// Each message begins with a channel: twice the place of a port for its data, one more for what goes wrong with it.
async fn channels<T>(mut socket: Socket, far: T, ports: &[u16]) -> Result<(), tungstenite::Error>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, _incoming) = Connection::start(far, Role::Client);
    let (messages, mut waiting) = mpsc::channel(WAITING_MESSAGES_MAX);
    let mut writers: Vec<Option<Writer>> = Vec::new();
    // Dropped at the end of the session with all that still runs.
    let mut readers = JoinSet::new();
    for (place, port) in ports.iter().enumerate() {
        let channel = u8::try_from(place * 2).unwrap_or(u8::MAX - 1);
        let id = place.to_string();
        let opened = async {
            let error = connection.open(stream_headers("error", *port, &id)).await?;
            let data = connection.open(stream_headers("data", *port, &id)).await?;
            Ok::<_, crate::spdy::Error>((data, error))
        };
        let Ok((data, error)) = opened.await else { break };
        for channel in [channel, channel + 1] {
            socket.send(piece(channel, &port.to_le_bytes())).await?;
        }
        let Stream { reader, writer, .. } = data;
        writers.push(Some(writer));
        readers.spawn(relay(channel, reader, messages.clone()));
        let Stream { reader, writer, .. } = error;
        // Nothing is ever said on it from this side.
        writer.finish().await.unwrap_or_default();
        readers.spawn(relay(channel + 1, reader, messages.clone()));
    }
    drop(messages);
    let (mut to_client, mut from_client) = socket.split();
    let up = async {
        while let Some(message) = from_client.next().await {
            let bytes = match message? {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                _ => continue,
            };
            let Some((channel, bytes)) = bytes.split_first() else {
                continue;
            };
            let writer = writers.get_mut(usize::from(*channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(Some(writer)) = writer {
                // Whoever forwards no more says so on its own channel.
                writer.send(Bytes::copy_from_slice(bytes)).await.unwrap_or_default();
            }
        }
        Ok(())
    };
    let down = async {
        while let Some(message) = waiting.recv().await {
            to_client.send(message).await?;
        }
        to_client.close().await
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

fn stream_headers(kind: &str, port: u16, id: &str) -> crate::spdy::Headers {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    [
        header("streamtype", kind),
        header("port", &port.to_string()),
        header("requestid", id),
    ]
    .into_iter()
    .collect()
}

fn piece(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.freeze())
}

async fn relay(channel: u8, mut reader: crate::spdy::Reader, to: mpsc::Sender<Message>) {
    while let Some(bytes) = reader.recv().await {
        if to.send(piece(channel, &bytes)).await.is_err() {
            return;
        }
    }
}
