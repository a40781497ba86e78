//! PortForward: connections to what listens on loopback in a pod.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use cri::v1::NamespaceMode;
use remotecommand::port_forward;
use tokio::net::TcpStream;

use crate::namespaces;
use crate::sandbox::Sandbox;
use crate::state::Runtime;

/// Answers a request for the ports of a sandbox.
pub(super) fn serve(runtime: &Arc<Runtime>, sandbox: Arc<Sandbox>, request: &mut Request) -> Response {
    match port_forward::accept(request) {
        Err(refused) => (refused.status_code(), refused.to_string()).into_response(),
        Ok((response, pending)) => {
            let (tasks, shutdown, runtime) = (&runtime.tasks, runtime.shutdown.clone(), Arc::clone(runtime));
            let dial = move |port| dial(Arc::clone(&runtime), Arc::clone(&sandbox), port);
            tasks.spawn(shutdown.run_until_cancelled_owned(pending.serve(dial)));
            response.map(|()| Body::empty())
        }
    }
}

async fn dial(runtime: Arc<Runtime>, sandbox: Arc<Sandbox>, port: u16) -> Result<TcpStream, String> {
    if sandbox.options().network() == NamespaceMode::Node {
        return connect(port).map_err(|error| error.to_string()).and_then(adopt);
    }
    let held = namespaces::network(&runtime.namespaces_folder(&sandbox.id));
    let connected = tokio::task::spawn_blocking(move || namespaces::within_network(&held, move || connect(port)));
    let connected = connected.await.map_err(|error| error.to_string())?;
    adopt(connected.map_err(|error| error.to_string())?)
}

/// A socket belongs to the namespace it was made in, wherever it is used then.
fn connect(port: u16) -> io::Result<std::net::TcpStream> {
    let first = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    first.or_else(|error| std::net::TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, port)).map_err(|_| error))
}

fn adopt(stream: std::net::TcpStream) -> Result<TcpStream, String> {
    let adopt = || {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        TcpStream::from_std(stream)
    };
    adopt().map_err(|error| error.to_string())
}
