//! Unix sockets, both ways.

use hyper_util::rt::TokioIo;
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// An endpoint that is no unix socket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("CSI endpoint {0:?} is not of the form unix:///path/to.sock")]
pub struct EndpointError(String);

/// The path of an endpoint: `unix:///path`, `unix:/path` or a plain absolute path.
///
/// # Errors
/// [`EndpointError`] if it has another scheme or no absolute path.
pub fn path_of(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let path = endpoint
        .strip_prefix("unix://")
        .or_else(|| endpoint.strip_prefix("unix:"))
        .unwrap_or(endpoint);
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(EndpointError(endpoint.to_owned()))
    }
}

/// A channel to the plug-in that listens on a socket.
///
/// The channel connects at its first call and again after each broken connection, so the plug-in may start later.
pub fn connect(socket: &Path) -> Channel {
    let path = socket.to_path_buf();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The authority is never resolved; gRPC only needs some URI.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// Listens on a socket, for root only, in place of what an earlier process left there.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(socket: &Path) -> io::Result<UnixListenerStream> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(UnixListenerStream::new(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in ["unix:///run/csi.sock", "unix:/run/csi.sock", "/run/csi.sock"] {
            assert_eq!(path_of(good).unwrap(), Path::new("/run/csi.sock"));
        }
        for bad in ["tcp://127.0.0.1:1", "csi.sock", "unix://csi.sock", ""] {
            assert_eq!(path_of(bad), Err(EndpointError(bad.to_owned())));
        }
    }
}
