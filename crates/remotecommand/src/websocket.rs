//! Sessions over a websocket.

use crate::protocol::WebSocketProtocol;
use crate::session::{ClientSession, ServerSession, StreamOptions};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) async fn serve<T>(_connection: T, _protocol: WebSocketProtocol, _streams: StreamOptions) -> ServerSession
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    unimplemented!()
}

pub(crate) async fn connect<T>(_connection: T, _protocol: WebSocketProtocol, _streams: StreamOptions) -> ClientSession
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    unimplemented!()
}
