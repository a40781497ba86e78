//! Exchanges with servers behind this one: kubelets, pods, the endpoints of Services.

use crate::create::text;
use axum::body::Body;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How long a connection may take to come about; upstream's figure.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A server behind this one.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// How to speak TLS, if it does.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The name that it goes by in TLS, if that is not the host.
    pub(crate) server_name: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// TCP or TLS failed.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] io::Error),
    /// HTTP failed.
    #[error("request failed")]
    Http(#[source] hyper::Error),
}

/// An answer, and the connection that it comes on; its body ends with the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: AbortOnDropHandle<hyper::Result<()>>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Backend {
    /// Host and port as a URL has them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends a request whose URI is a path. A missing `Host` is filled in.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Answer, Error> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.connect());
        let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|error| Error::Connect(self.authority(), error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, driver) = handshake.map_err(Error::Http)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(driver.with_upgrades()));
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = HeaderValue::try_from(self.authority())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        let response = sender.send_request(request).await.map_err(Error::Http)?;
        Ok(Answer { response, connection })
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let mut tls = ClientConfig::clone(tls);
        // Upgrades exist in HTTP/1.1 only.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(self.server_name.clone().unwrap_or_else(|| self.host.clone()))
            .map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}

impl Answer {
    /// The answer with a body that keeps its connection.
    pub(crate) fn into_response(self) -> Response<Body> {
        use http_body_util::BodyExt;
        let connection = self.connection;
        self.response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &connection;
                frame
            }))
        })
    }
}

/// The path and query of a URL.
pub(crate) fn path_of(url: &Uri) -> &str {
    url.path_and_query().map_or("/", |path| path.as_str())
}

/// The address of a node as upstream prefers it.
pub(crate) fn address_of(node: &Value) -> Option<&str> {
    let addresses = node["status"]["addresses"].as_array()?;
    let of_type = |wanted: &str| addresses.iter().find(|address| address["type"] == wanted);
    let found = of_type("InternalIP")
        .or_else(|| of_type("ExternalIP"))
        .or_else(|| of_type("Hostname"))?;
    text(&found["address"])
}

/// TLS with whoever answers: what is proxied to pods is not checked, because nobody vouches for their certificates.
/// Whoever may use the proxy knows that.
pub(crate) fn unchecked_tls() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?;
    let config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Some(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
