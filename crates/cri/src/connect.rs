//! A gRPC channel over a unix socket.

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Why no channel to a runtime could be made.
#[derive(Debug)]
pub enum ConnectError {
    /// The endpoint is not of the form `unix:///absolute/path` or `/absolute/path`.
    NotAUnixSocket(String),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAUnixSocket(endpoint) => {
                write!(
                    f,
                    "runtime endpoint {endpoint:?} is not of the form unix:///path/to.sock"
                )
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// A channel to the runtime listening at `endpoint` (`unix:///path` or a plain path).
///
/// The channel connects at its first call and again after each broken connection, so the runtime may start later.
///
/// # Errors
/// [`ConnectError::NotAUnixSocket`] if `endpoint` has another scheme or no absolute path.
pub fn connect(endpoint: &str) -> Result<Channel, ConnectError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
    if !path.starts_with('/') {
        return Err(ConnectError::NotAUnixSocket(endpoint.to_owned()));
    }
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The authority is never resolved; gRPC only needs some URI.
    Ok(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector))
}
