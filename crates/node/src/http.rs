//! One HTTP request of a probe or hook: no connection is kept, no certificate is judged, as kubelets do.

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// More of an answer is not read.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// More redirects are not followed.
const REDIRECTS_MAX: usize = 10;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) code: u16,
    /// The beginning of the body.
    pub(crate) body: String,
    /// Where a redirect to another host leads; it is not followed.
    pub(crate) elsewhere: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `http` or `https`.
    pub(crate) scheme: String,
    /// Host name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    /// Further headers; `Host` overrides the host's name.
    pub(crate) headers: Vec<(String, String)>,
}

impl Target {
    /// The URL as messages show it.
    pub(crate) fn url(&self) -> String {
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        format!(
            "{}://{}:{}{slash}{}",
            self.scheme,
            bracketed(&self.host),
            self.port,
            self.path
        )
    }
}

/// A host as it stands before a colon and a port.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Asks and follows redirects within the same host.
///
/// # Errors
/// The text of what went wrong, as upstream's messages have it after the URL.
pub(crate) async fn get(target: &Target, agent: &str) -> Result<Answer, String> {
    let mut target = target.clone();
    for _ in 0..REDIRECTS_MAX {
        let (answer, location) = ask(&target, agent)
            .await
            .map_err(|e| format!("Get \"{}\": {e}", target.url()))?;
        let Some(location) = location.filter(|_| (300..400).contains(&answer.code)) else {
            return Ok(answer);
        };
        match redirected(&target, &location) {
            Some(next) => target = next,
            None => {
                return Ok(Answer {
                    elsewhere: Some(location),
                    ..answer
                });
            }
        }
    }
    Err(format!(
        "Get \"{}\": stopped after {REDIRECTS_MAX} redirects",
        target.url()
    ))
}

/// The target after a redirect; `None` if it leads to another host.
fn redirected(target: &Target, location: &str) -> Option<Target> {
    if !location.contains("://") {
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            format!("/{location}")
        };
        return Some(Target { path, ..target.clone() });
    }
    let uri: Uri = location.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    if host != target.host {
        return None;
    }
    let scheme = uri.scheme_str()?.to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let path = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
        .to_owned();
    Some(Target {
        scheme,
        port,
        path,
        ..target.clone()
    })
}

async fn ask(target: &Target, agent: &str) -> Result<(Answer, Option<String>), String> {
    let stream = dial(&target.host, target.port).await?;
    if target.scheme.eq_ignore_ascii_case("https") {
        let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(trusting()?);
        let stream = connector.connect(name, stream).await.map_err(|e| format!("tls: {e}"))?;
        exchange(stream, target, agent).await
    } else {
        exchange(stream, target, agent).await
    }
}

/// Opens a TCP connection.
///
/// # Errors
/// The text as upstream's messages have it.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {}:{port}: {why}", bracketed(host))
    })
}

async fn exchange<S>(stream: S, target: &Target, agent: &str) -> Result<(Answer, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    // The connection lives as long as this exchange.
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = request(target, agent)?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let code = response.status().as_u16();
    let location = header_text(response.headers(), header::LOCATION.as_str());
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        // An answer that breaks off has still answered.
        let Ok(frame) = frame else { break };
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() >= BODY_BYTES_MAX {
            text.truncate(BODY_BYTES_MAX);
            break;
        }
    }
    drop(connection);
    let body = String::from_utf8_lossy(&text).into_owned();
    Ok((
        Answer {
            code,
            body,
            elsewhere: None,
        },
        location,
    ))
}

fn request(target: &Target, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let path = if target.path.starts_with('/') {
        target.path.clone()
    } else {
        format!("/{}", target.path)
    };
    let given = |name: &str| {
        target
            .headers
            .iter()
            .rev()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    };
    let authority = format!("{}:{}", bracketed(&target.host), target.port);
    let mut request = Request::get(path).header(header::HOST, given("host").unwrap_or(&authority));
    if given("user-agent").is_none() {
        request = request.header(header::USER_AGENT, agent);
    }
    if given("accept").is_none() {
        request = request.header(header::ACCEPT, "*/*");
    }
    request = request.header(header::CONNECTION, "close");
    for (name, value) in target.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("host")) {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(|e| e.to_string())
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

fn trusting() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A probe asks whether a server answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn serve_once(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    fn target(port: u16) -> Target {
        Target {
            scheme: "http".into(),
            host: "127.0.0.1".into(),
            port,
            path: "/x".into(),
            headers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn answers_and_redirects_elsewhere() {
        let port = serve_once("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\ndown").await;
        let answer = get(&target(port), "test").await.unwrap();
        assert_eq!((answer.code, answer.body.as_str()), (503, "down"));
        let port = serve_once("HTTP/1.1 302 Go\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            get(&target(port), "test").await.unwrap().elsewhere.as_deref(),
            Some("http://example.org/")
        );
    }

    #[tokio::test]
    async fn refusal_reads_as_upstream_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = get(&target(port), "test").await.unwrap_err();
        assert_eq!(
            error,
            format!("Get \"http://127.0.0.1:{port}/x\": dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
    }
}
