//! Port-forward: a client's connections to ports of a pod, a pair of SPDY streams for each (`portforward.k8s.io`).
//!
//! The client opens an error stream and a data stream with one request id and a port. What goes wrong is told as text
//! on the error stream, which ends with the connection.

use crate::server::{Refused, STREAM_PROTOCOL_VERSION, lists, switching, wants_upgrade};
use crate::spdy::{Connection, Role, Stream};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};
use hyper::upgrade::OnUpgrade;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The protocol's name.
pub const PROTOCOL: &str = "portforward.k8s.io";

/// Streams that may wait for the other one of their pair; a client that opens more is not one of Kubernetes'.
const UNPAIRED_MAX: usize = 128;

/// Bytes read from a pod at once.
const READ_BYTES: usize = 16 * 1024;

/// A session that begins when the response has been sent.
pub struct Pending {
    upgrade: OnUpgrade,
}

/// Takes a request over. Send the response (with an empty body) and run [`Pending::serve`] in a task of its own.
///
/// # Errors
/// [`Refused`] if the request does not ask for port-forward over SPDY.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, Pending), Refused> {
    if !wants_upgrade(request.headers(), "SPDY/3.1") {
        return Err(Refused::NotAnUpgrade);
    }
    let offers: Vec<_> = lists(request.headers(), &STREAM_PROTOCOL_VERSION).collect();
    if !offers.is_empty() && !offers.contains(&PROTOCOL) {
        let offered = offers.join(", ");
        return Err(Refused::UnknownProtocol { offered });
    }
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Refused::NotUpgradable);
    }
    let mut response = switching("SPDY/3.1");
    response
        .headers_mut()
        .insert(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(PROTOCOL));
    let upgrade = hyper::upgrade::on(request);
    Ok((response, Pending { upgrade }))
}

impl Pending {
    /// The connection itself, for whoever passes it on to another server.
    ///
    /// # Errors
    /// When the client went away before the upgrade.
    pub async fn connection(self) -> Result<hyper::upgrade::Upgraded, hyper::Error> {
        self.upgrade.await
    }

    /// Serves the session until the client ends it; `dial` connects to a port of the pod, or says why it cannot.
    pub async fn serve<D, F>(self, dial: D)
    where
        D: Fn(u16) -> F + Send + Sync + 'static,
        F: Future<Output = Result<TcpStream, String>> + Send + 'static,
    {
        let connection = match self.upgrade.await {
            Ok(connection) => hyper_util::rt::TokioIo::new(connection),
            Err(error) => return tracing::debug!(%error, "a port-forward session did not begin"),
        };
        let (_connection, mut incoming) = Connection::start(connection, Role::Server);
        let dial = Arc::new(dial);
        let mut unpaired: BTreeMap<String, Stream> = BTreeMap::new();
        // Dropped at the end of the session with all that still runs.
        let mut forwards = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = incoming.next() => stream,
                Some(_) = forwards.join_next(), if !forwards.is_empty() => continue,
            };
            let Some(stream) = stream else { return };
            let id = stream.header("requestid").unwrap_or_default().to_owned();
            let Some(other) = unpaired.remove(&id) else {
                if unpaired.len() < UNPAIRED_MAX {
                    unpaired.insert(id, stream);
                }
                continue;
            };
            if let Some((data, error)) = pair(stream, other) {
                forwards.spawn(forward(dial.clone(), data, error));
            }
        }
    }
}

/// Which of two streams is for data and which for errors.
fn pair(one: Stream, other: Stream) -> Option<(Stream, Stream)> {
    let kind = |stream: &Stream| stream.header("streamtype").map(str::to_owned);
    match (kind(&one).as_deref(), kind(&other).as_deref()) {
        (Some("data"), Some("error")) => Some((one, other)),
        (Some("error"), Some("data")) => Some((other, one)),
        _ => None,
    }
}

/// One connection from its beginning to its end.
async fn forward<D, F>(dial: Arc<D>, data: Stream, mut error: Stream)
where
    D: Fn(u16) -> F,
    F: Future<Output = Result<TcpStream, String>>,
{
    let port = data.header("port").unwrap_or_default().to_owned();
    let connected = match port.parse() {
        Ok(port) if port > 0 => dial(port).await,
        _ => Err(format!("{port:?} is not a port")),
    };
    let done = match connected {
        Ok(stream) => copy(stream, data).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    // A client that is gone needs no explanation.
    if let Err(why) = done {
        let text = format!("error forwarding port {port} to pod: {why}");
        error.writer.send(Bytes::from(text)).await.unwrap_or_default();
    }
    error.writer.finish().await.unwrap_or_default();
}

/// Carries bytes both ways until the pod has said all, or the client takes no more.
async fn copy(mut stream: TcpStream, data: Stream) -> std::io::Result<()> {
    let Stream {
        mut reader, mut writer, ..
    } = data;
    let (mut from_pod, mut to_pod) = stream.split();
    let up = async {
        while let Some(bytes) = reader.recv().await {
            to_pod.write_all(&bytes).await?;
        }
        to_pod.shutdown().await
    };
    let down = async {
        loop {
            let mut bytes = BytesMut::with_capacity(READ_BYTES);
            if from_pod.read_buf(&mut bytes).await? == 0 {
                writer.finish().await.unwrap_or_default();
                return Ok::<_, std::io::Error>(());
            }
            if writer.send(bytes.freeze()).await.is_err() {
                return Ok(());
            }
        }
    };
    let mut up = std::pin::pin!(up);
    let mut down = std::pin::pin!(down);
    tokio::select! {
        done = &mut down => done,
        sent = &mut up => {
            // A pod that hears no more may still have something to say; one that cannot be told to has ended.
            let said = down.await;
            sent.and(said)
        }
    }
}
