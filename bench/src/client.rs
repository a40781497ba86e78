//! One client: one HTTP/2 connection, as client-go keeps one.

use crate::target::Target;
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Large lists must not be held up by flow control.
const WINDOW_BYTES: u32 = 16 << 20;

/// A connection to the server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    requests: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Client {
    pub(crate) async fn connect(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&target.authority).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(target.tls.clone());
        let stream = connector.connect(target.server_name.clone(), stream).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // Ends with the last handle.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
        Ok(Self {
            requests,
            target: target.clone(),
        })
    }

    /// Sends a request; any answer but success is an error.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("https://{}{path}", self.target.authority))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.requests.ready().await?;
        let response = self
            .requests
            .send_request(request.body(Full::new(body.into()))?)
            .await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&text));
    }

    /// Reads an object.
    pub(crate) async fn read(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let answer = self.open(Method::GET, path, "application/json", "").await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    /// Sends a request and reads the answer; its size.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> anyhow::Result<usize> {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut body = self.open(method, path, content_type, body).await?.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame.context("the answer broke off")?.data_ref().map_or(0, Bytes::len);
        }
        Ok(size)
    }
}
