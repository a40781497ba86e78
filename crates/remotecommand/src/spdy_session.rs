//! Sessions over SPDY.

use crate::protocol::SpdyProtocol;
use crate::session::{ClientSession, ServerSession, SessionError, StreamOptions};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) async fn serve<T>(
    _connection: T,
    _protocol: SpdyProtocol,
    _streams: StreamOptions,
) -> Result<ServerSession, SessionError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    unimplemented!()
}

pub(crate) async fn connect<T>(
    _connection: T,
    _protocol: SpdyProtocol,
    _streams: StreamOptions,
) -> Result<ClientSession, SessionError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    unimplemented!()
}
