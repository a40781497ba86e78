//! Sessions over TLS, where both sides show certificates, as between API server and node.

use crate::serving;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use remotecommand::{ConnectError, Endpoint, StreamOptions, Wire, connect, status};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn identity(names: &[&str]) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("the names are valid");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    Identity {
        certificate: made.cert.der().clone(),
        key,
    }
}

fn trust(identity: &Identity) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.clone()).expect("it is a certificate");
    Arc::new(roots)
}

/// Serves the commands of `serving` over TLS with both protocols offered; clients must show `client`.
async fn start(server: &Identity, client: &Identity) -> (SocketAddr, JoinSet<()>) {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(trust(client), provider.clone())
        .build()
        .expect("roots");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.certificate.clone()], server.key.clone_key())
        .expect("key and certificate fit");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let router = serving::router(None).0;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.expect("it listens");
            let (acceptor, router) = (acceptor.clone(), router.clone());
            connections.spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let builder = auto::Builder::new(TokioExecutor::new());
                // A client that goes away is no error here.
                drop(builder.serve_connection_with_upgrades(TokioIo::new(tls), service).await);
            });
        }
    });
    (address, tasks)
}

fn client_config(server: &Identity, client: Option<&Identity>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(trust(server));
    Arc::new(match client {
        Some(client) => builder
            .with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())
            .expect("key and certificate fit"),
        None => builder.with_no_client_auth(),
    })
}

#[tokio::test]
async fn sessions_run_over_tls_with_client_certificates() {
    let (server, client) = (identity(&["127.0.0.1", "localhost"]), identity(&["client"]));
    let (address, _tasks) = start(&server, &client).await;
    let streams = StreamOptions {
        stdout: true,
        ..StreamOptions::default()
    };
    for wire in [Wire::WebSocket, Wire::Spdy] {
        for host in ["127.0.0.1", "localhost"] {
            let path = "api/v1/namespaces/default/pods/web-0/exec?stdout=1&command=echo&command=hi";
            let url = format!("https://{host}:{}/{path}", address.port()).parse().unwrap();
            let tls = Some(client_config(&server, Some(&client)));
            let mut endpoint = Endpoint {
                url,
                tls,
                headers: Default::default(),
                wire,
            };
            let mut session = connect(&endpoint, streams).await.unwrap();
            let mut stdout = session.stdout.take().unwrap();
            assert_eq!(stdout.recv().await.unwrap(), "hi\n");
            assert_eq!(session.status().await.unwrap(), status::success());

            endpoint.tls = Some(client_config(&server, None));
            let error = connect(&endpoint, streams).await.unwrap_err();
            assert!(
                matches!(error, ConnectError::Http(_) | ConnectError::Connect(_)),
                "{error:?}"
            );
            endpoint.tls = Some(client_config(&client, Some(&client)));
            assert!(matches!(
                connect(&endpoint, streams).await.unwrap_err(),
                ConnectError::Connect(_)
            ));
            endpoint.tls = None;
            assert!(matches!(
                connect(&endpoint, streams).await.unwrap_err(),
                ConnectError::Url(_)
            ));
        }
    }
}
