//! The API over TLS: HTTP/2 and HTTP/1.1, identity from client certificates.

use crate::authn;
use crate::unread;
use crate::user::User;
use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for the head of a request, and how large its headers may be (HTTP/2; hyper has limits of
/// its own for HTTP/1.1).
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
const HEADERS_BYTES_MAX: u32 = 64 * 1024;

/// How long requests in progress may go on after the server was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after the system refused a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams that one HTTP/2 connection may have open; clients put all their watches on one connection.
const STREAMS_MAX: u32 = 1000;

/// How long an HTTP/2 connection may be silent until the client is asked whether it is still there, and how long it may
/// take to say so: the watches of a client that vanished end then.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// In each request's extensions: cancelled when the server stops, so that watches end.
#[derive(Clone, Debug)]
pub(crate) struct Draining(pub(crate) CancellationToken);

/// In each request's extensions: who is on the other side of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves a router until told to stop, then lets requests in progress end.
///
/// A client certificate makes its common name the user and its organisations the groups. The `tls` configuration
/// decides which certificates are trusted; it must offer `h2` and `http/1.1` by ALPN.
///
/// # Errors
/// When the listener cannot be used at all.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, peer)) => (stream, Peer(peer)),
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (stream, peer) = stream;
        connections.spawn(connection(
            stream,
            peer,
            acceptor.clone(),
            router.clone(),
            shutdown.clone(),
        ));
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::info!("some requests did not end in time and are cut off");
    }
    Ok(())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, peer: Peer, acceptor: TlsAcceptor, router: Router, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|certificates| certificates.first());
    let user = certificate.and_then(authn::user);
    let draining = Draining(shutdown.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (request, rest) = unread::lend(request);
        let answered = router
            .clone()
            .oneshot(identified(request, peer, user.clone(), draining.clone()));
        async {
            let mut response = answered.await?;
            rest.finish(&mut response).await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .adaptive_window(true);
    http2.keep_alive_interval(PING_AFTER).keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = crate::status::chain(&*error), "a connection ended early");
    }
}

/// The request with its user. What a client puts into headers cannot make it somebody else.
fn identified(mut request: Request<Body>, peer: Peer, user: Option<User>, draining: Draining) -> Request<Body> {
    request.extensions_mut().insert(draining);
    request.extensions_mut().insert(peer);
    if let Some(user) = user {
        request.extensions_mut().insert(user);
    }
    request
}
